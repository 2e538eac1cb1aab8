//! Logs, metrics and traces of one process.
//!
//! A log line is one JSON object on standard output ([`mod@line`] writes it, [`sink`] buffers it); every request
//! gets one, and whatever is logged while a request is worked on carries its ids. Metrics are kept in
//! [`metrics`] and served at `/metrics`. Spans are exported ([`spans`]) only where an endpoint is set: without
//! one, a request costs no span at all.

pub mod line;
pub mod metrics;
mod sink;
mod spans;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, registry};

use crate::settings::Common;

pub use sink::flush;

static EXPORTS_SPANS: AtomicBool = AtomicBool::new(false);

/// Whether spans are exported, so that it is worth making them.
pub fn exports_spans() -> bool {
    EXPORTS_SPANS.load(Ordering::Relaxed)
}

/// The running telemetry of the process; [`Telemetry::finish`] it at the end.
#[derive(Debug)]
pub struct Telemetry {
    spans: Option<spans::Exporter>,
}

/// Starts logging, metrics and, where an endpoint is set, the export of spans. Once a process.
pub fn start(service: &'static str, settings: &Common) -> anyhow::Result<Telemetry> {
    line::name_service(service);
    sink::start()?;
    metrics::start(service)?;
    let lines = line::Lines.with_filter(line_levels(settings.log_level.clone()));
    let spans = settings
        .otel_exporter_otlp_endpoint
        .as_ref()
        .map(|endpoint| spans::Exporter::start(service, endpoint))
        .transpose()?;
    registry().with(spans.as_ref().map(spans::Exporter::layer)).with(lines).try_init()?;
    EXPORTS_SPANS.store(spans.is_some(), Ordering::Relaxed);
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, "panicked");
        flush();
    }));
    Ok(Telemetry { spans })
}

/// tarpc says once a call what [`crate::rpc`] says once an outage, and its spans are for the export only: a call
/// costs none where nothing is exported. lapin says again what [`crate::amqp`] says, and writes out whole
/// messages that came back. Both are heard where a setting names them.
fn line_levels(mut levels: Targets) -> Targets {
    for quiet in ["tarpc", "lapin"] {
        if !levels.iter().any(|(target, _)| target.starts_with(quiet)) {
            levels = levels.with_target(quiet, LevelFilter::OFF);
        }
    }
    levels
}

impl Telemetry {
    /// Exports what is left and writes out the last lines.
    pub async fn finish(self) {
        if let Some(spans) = self.spans {
            // Its shutdown blocks; a collector that is away must not hold the process up.
            let shutdown = tokio::task::spawn_blocking(move || spans.finish(Duration::from_secs(2)));
            if let Ok(Err(error)) = shutdown.await {
                tracing::warn!(error, "the last spans were not exported");
            }
        }
        flush();
    }
}
