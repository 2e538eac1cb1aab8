//! The export of spans: one trace from the client through the broker to the logger, over OTLP.

use std::time::Duration;

use e2e::process::{Process, free_port};
use http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use serde_json::json;
use testkit::http::Client;
use testkit::{eventually, setting};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

const TRACE_ID: &str = "5bd1c62e5e6a4f3c9c8f2b7d1a0e9f11";
const CLIENT_SPAN: &str = "b7ad6b7169203331";

/// A collector that keeps what it gets.
struct Collector {
    received: watch::Sender<Vec<ResourceSpans>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received.send_modify(|all| all.extend(request.into_inner().resource_spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(id: &[u8]) -> String {
    let number = id.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    format!("{number:0width$x}", width = id.len() * 2)
}

/// The spans of the trace, each with the service that made it.
fn of_trace(received: &[ResourceSpans]) -> Vec<(String, Span)> {
    let service = |spans: &ResourceSpans| {
        let attributes = &spans.resource.as_ref()?.attributes;
        let name = attributes.iter().find(|attribute| attribute.key == "service.name")?;
        match name.value.as_ref()?.value.as_ref()? {
            StringValue(name) => Some(name.clone()),
            _ => None,
        }
    };
    let spans = received.iter().flat_map(|of| {
        let service = service(of).unwrap_or_default();
        of.scope_spans.iter().flat_map(|scope| &scope.spans).map(move |span| (service.clone(), span.clone()))
    });
    spans.filter(|(_, span)| hex(&span.trace_id) == TRACE_ID).collect()
}

#[tokio::test]
async fn one_trace_goes_from_the_client_to_the_logger() {
    let (received, mut spans) = watch::channel(Vec::new());
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(collector);
    let service = TraceServiceServer::new(Collector { received });
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));

    let (mongo, database, rabbitmq) = (setting("MONGO_URL"), testkit::namespace(), setting("RABBITMQ_URL"));
    let rpc = free_port().to_string();
    let otlp = ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str());
    let database = database.trim_end_matches('-');
    let logger = [otlp, ("MONGO_URL", &mongo), ("MONGO_DATABASE", database), ("RPC_PORT", &rpc)];
    let logger = Process::start("logger", &logger).await;
    let address = format!("127.0.0.1:{rpc}");
    let broker =
        Process::start("broker", &[otlp, ("RABBITMQ_URL", &rabbitmq), ("LOGGER_RPC_ADDR", &address)]).await;

    let traceparent = format!("00-{TRACE_ID}-{CLIENT_SPAN}-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let body = json!({"action": "log", "log": {"name": "traced", "data": 1}}).to_string();
    let url = format!("{}/handle", broker.url);
    eventually(Duration::from_secs(20), "the log is stored", || async {
        let answer = Client::default().send(Method::POST, &url, &headers, body.clone()).await?;
        if answer.status == 202 { Ok(()) } else { Err(answer.body.to_string()) }
    })
    .await;
    // What is left is exported at a stop.
    assert!(broker.terminate().await, "the broker stops cleanly");
    assert!(logger.terminate().await, "the logger stops cleanly");

    let complete = |received: &Vec<ResourceSpans>| {
        let spans = of_trace(received);
        ["switchboard-broker", "switchboard-logger"]
            .iter()
            .all(|name| spans.iter().any(|(service, _)| service == name))
    };
    let found = tokio::time::timeout(Duration::from_secs(10), spans.wait_for(complete)).await;
    let spans = of_trace(&found.expect("spans of both services within 10 s").unwrap());
    let ids: Vec<_> = spans.iter().map(|(_, span)| hex(&span.span_id)).collect();
    for (service, span) in &spans {
        let parent = hex(&span.parent_span_id);
        assert!(
            parent == CLIENT_SPAN || ids.contains(&parent),
            "{service} {} has the parent {parent}",
            span.name
        );
    }
    testkit::mongodb::drop_database(database).await;
}
