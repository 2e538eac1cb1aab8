//! Keeps log entries, each durable before it is acknowledged and each stored once.
//!
//! An entry comes in by [`rpc`] (`append`, `append_all`) or by [`routes`] (`POST /log`), becomes a [`document`] in
//! the task that received it, and waits in [`group_commit`] for the next write, which [`insert`] makes. Reading
//! (`GET /logs`) goes from [`routes`] through [`search`]. [`mongo`] is the connection; [`indexes`] are made at
//! start, retention among them.

pub mod config;
pub mod document;
pub mod group_commit;
pub mod indexes;
pub mod insert;
pub mod mongo;
pub mod routes;
pub mod rpc;
pub mod search;

use anyhow::Context as _;
use chassis::health::Health;
use chassis::http::server;
use chassis::lifecycle::Lifecycle;
use chassis::rpc::server::Limits;
use tokio::net::TcpListener;

pub use config::Config;

use crate::group_commit::GroupCommit;
use crate::insert::Insert;
use crate::mongo::Mongo;
use crate::search::Search;

/// Listens for HTTP and RPC, and serves.
pub async fn start(config: Config, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let http = server::bind(config.common.listen(config.port.get())).await?;
    let address = config.common.listen(config.rpc_port.get());
    let rpc = TcpListener::bind(address).await;
    let rpc = rpc.with_context(|| format!("cannot listen on {address} (HOST, RPC_PORT)"))?;
    serve(http, rpc, config, &lifecycle).await
}

/// Serves on listeners that the caller chose. It answers at once, also while MongoDB is away.
pub async fn serve(
    http: TcpListener,
    rpc: TcpListener,
    config: Config,
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    let mongo = Mongo::open(&config).await?;
    let log = GroupCommit::start(Insert::new(&mongo), &mongo, lifecycle);
    indexes::keep(mongo.clone(), config.log_retention_days, lifecycle);

    let search = Search::new(&mongo);
    let health = Health::new(lifecycle.draining()).check("MongoDB", move || {
        let mongo = mongo.clone();
        async move { mongo.ping().await }
    });
    let routes = routes::routes(log.clone(), search).merge(health.routes());
    lifecycle.spawn("http", server::serve(http, routes, lifecycle.stopping()));
    let calls = chassis::rpc::server::serve(rpc, lifecycle.stopping(), Limits::default(), rpc::handler(log));
    lifecycle.spawn("rpc", calls);
    Ok(())
}
