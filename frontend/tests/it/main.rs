//! The console's service, as a browser sees it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails with the reason")]

mod files;
mod page;

use chassis::lifecycle::Lifecycle;
use clap::Parser as _;
use frontend::Config;
use testkit::Running;
use tokio::net::TcpListener;

/// Starts a console with these flags on a free port; gives it and its address.
async fn console(flags: &[&str]) -> (Running, String) {
    let config = Config::try_parse_from([&["frontend"], flags].concat()).expect("valid settings");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let start = |lifecycle: Lifecycle| async move { frontend::serve(listener, config, &lifecycle).await };
    (Running::start(start).await, url)
}
