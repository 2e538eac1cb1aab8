//! Prometheus metrics, and `GET /metrics`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::{Counter, Histogram, counter, gauge, histogram};
use axum::Router;
use axum::routing::get;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the latency histograms, in seconds.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds of the histograms whose name ends with `_size`: how many came together.
const SIZES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts recording. The recorder's histograms want to be folded now and then, or they grow.
pub(super) fn start(service: &'static str) -> anyhow::Result<()> {
    let handle = PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets(&BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES)?
        .install_recorder()?;
    gauge!("build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            upkeep.run_upkeep();
        }
    });
    // Set once; a second call fails above.
    let _ = HANDLE.set(handle);
    Ok(())
}

/// The route `/metrics`, in the text format of Prometheus.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let render = async || {
        let text = HANDLE.get().map(PrometheusHandle::render).unwrap_or_default();
        ([("content-type", "text/plain; version=0.0.4")], text)
    };
    Router::new().route("/metrics", get(render))
}

struct Series {
    method: &'static str,
    status: StatusCode,
    count: Counter,
    duration: Histogram,
}

thread_local! {
    /// The series of each route, so that a request looks its own up without making labels.
    static ROUTES: RefCell<HashMap<String, Vec<Series>>> = RefCell::default();
}

/// Counts one HTTP request. `route` is a pattern of the router, so that there are few of them.
pub fn request(method: &Method, route: &str, status: StatusCode, took: Duration) {
    ROUTES.with_borrow_mut(|routes| {
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), Vec::new());
        }
        let Some(series) = routes.get_mut(route) else { return };
        let method = known(method);
        let at = series.iter().position(|s| s.status == status && s.method == method).unwrap_or_else(|| {
            let labels = [
                ("method", method.to_owned()),
                ("route", route.to_owned()),
                ("status", status.as_str().to_owned()),
            ];
            series.push(Series {
                method,
                status,
                count: counter!("http_requests_total", &labels),
                duration: histogram!("http_request_duration_seconds", &labels),
            });
            series.len() - 1
        });
        series[at].count.increment(1);
        series[at].duration.record(took.as_secs_f64());
    });
}

/// The name of a method; those that a client made up share one, so that it can't make series without end.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_a_client_makes_up_share_a_series() {
        for n in 0..100 {
            let method = Method::from_bytes(format!("MADE-UP-{n}").as_bytes()).unwrap();
            request(&method, "a route of this test", StatusCode::METHOD_NOT_ALLOWED, Duration::ZERO);
        }
        ROUTES.with_borrow(|routes| assert_eq!(routes["a route of this test"].len(), 1));
    }
}
