//! The routes of the console: `GET /`, and the files of the page below `/assets/{version}/`.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use chassis::health::Health;
use chassis::http::Answer;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

use crate::assets::{Asset, Assets};
use crate::config::Config;
use crate::page;
use crate::security::SecurityHeaders;

/// For the page: keep it, but ask every time whether it is still the one.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// For a file whose path changes with its content (RFC 8246).
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

#[derive(Debug)]
struct Console {
    page: Asset,
    assets: Assets,
}

/// Every route of the console; `draining` turns its readiness off.
pub fn router(config: &Config, draining: CancellationToken) -> anyhow::Result<Router> {
    let assets = Assets::embedded()?;
    let page = page::render(&assets, config)?;
    let headers = SecurityHeaders::new(&config.broker_url).context("BROKER_URL")?;
    let routes = Router::new()
        .route("/", get(show_page))
        .route("/assets/{version}/{*path}", get(show_asset))
        .with_state(Arc::new(Console { page, assets }))
        .merge(Health::new(draining).routes())
        .layer(MapResponseLayer::new(move |mut response: Response| {
            headers.apply(&mut response);
            response
        }));
    Ok(routes)
}

async fn show_page(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    show(&console.page, REVALIDATE, &headers)
}

/// The version in the path makes it a new one with every build. While two builds run side by side a browser
/// may ask one for the files of the other: it gets what there is, and is told not to rely on it.
async fn show_asset(
    State(console): State<Arc<Console>>,
    Path((version, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Answer> {
    let asset = console.assets.get(&path).ok_or_else(|| {
        Answer::failed(StatusCode::NOT_FOUND, format!("there is no file {path} in this console"))
    })?;
    let caching = if version == console.assets.version() { FOR_EVER } else { REVALIDATE };
    Ok(show(asset, caching, &headers))
}

fn show(asset: &Asset, caching: HeaderValue, request: &HeaderMap) -> Response {
    let validators = [(header::ETAG, asset.etag.clone()), (header::CACHE_CONTROL, caching)];
    if is_held(request, &asset.etag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type))];
    (validators, media_type, Body::from(asset.content.clone())).into_response()
}

/// Whether `If-None-Match` names this tag, by the weak comparison (RFC 9110, 13.1.2).
fn is_held(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_a_list_also_when_a_proxy_made_it_weak() {
        let held = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))]);
            is_held(&headers, &HeaderValue::from_static("\"a1\""))
        };
        assert!(held("\"a1\"") && held("W/\"a1\"") && held("\"b\", \"a1\"") && held("*"));
        assert!(!held("\"b\"") && !held("a1") && !held(""));
    }
}
