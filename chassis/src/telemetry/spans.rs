//! The export of spans by OTLP over gRPC.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use url::Url;

/// The running export. It batches in a thread of its own and never holds a request up.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: Tracer,
}

impl Exporter {
    pub(super) fn start(service: &'static str, endpoint: &Url) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str()).build()?;
        let resource = Resource::builder().with_service_name(format!("switchboard-{service}")).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        let tracer = provider.tracer(service);
        Ok(Self { provider, tracer })
    }

    /// The layer that turns spans of `tracing` into spans of the export. Those of the exporter's own
    /// transport are left out, or every export would make more.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let own = ["h2", "hyper", "hyper_util", "tonic", "tower", "opentelemetry", "opentelemetry_sdk"];
        let filter = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_targets(own.map(|target| (target, LevelFilter::OFF)));
        OpenTelemetryLayer::new(self.tracer.clone()).with_filter(filter)
    }

    pub(super) fn finish(&self, within: Duration) -> Result<(), String> {
        self.provider.shutdown_with_timeout(within).map_err(|error| error.to_string())
    }
}
