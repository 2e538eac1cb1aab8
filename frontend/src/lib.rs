//! The test console: one page that sends requests to the broker from a browser and shows what came back.
//!
//! The page's files are in `assets/` and are part of the binary ([`assets`]). [`page`] writes the settings
//! into the page, [`routes`] serves it behind the headers of [`security`]. From there the browser talks to
//! the broker by itself: read on in `assets/js/app.js`. This service keeps nothing and calls no one.

pub mod assets;
pub mod config;
pub mod page;
pub mod routes;
pub mod security;

use chassis::lifecycle::Lifecycle;
use tokio::net::TcpListener;

pub use config::Config;

/// Binds where [`Config`] says and serves.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let listener = chassis::http::server::bind(config.common.listen(config.port.get())).await?;
    serve(listener, config, &lifecycle).await
}

/// Serves the console on `listener`; returns when that is under way.
#[expect(clippy::unused_async, reason = "the same for every service, and others do wait")]
pub async fn serve(listener: TcpListener, config: Config, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let routes = routes::router(&config, lifecycle.draining())?;
    lifecycle.spawn("http", chassis::http::server::serve(listener, routes, lifecycle.stopping()));
    Ok(())
}
