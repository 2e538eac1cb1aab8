//! The edge and the body, without a network.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::body::{JsonBody, LIMIT};
use super::{Answer, edge};
use crate::request::{RequestContext, X_REQUEST_ID};

fn app() -> Router {
    edge::wrap(routes(), None)
}

fn routes() -> Router {
    let echo = async |body: JsonBody| Ok::<_, Answer>(Answer::ok(StatusCode::OK, body.value()?.to_string()));
    Router::new()
        .route("/echo", post(echo))
        .route("/who", get(async |context: RequestContext| Answer::ok(StatusCode::OK, context.request_id())))
        .route("/panic", get(async || -> Answer { panic!("a mistake") }))
}

async fn send(request: Request<Body>) -> (Response<()>, Value) {
    let response = app().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(head, ()), serde_json::from_slice(&body).unwrap())
}

async fn echo(content_type: &str, body: impl Into<Body>) -> (u16, String) {
    let request =
        Request::post("/echo").header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap();
    let (head, body) = send(request).await;
    (head.status().as_u16(), body["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_answer_carries_the_ids_of_its_request() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = Request::get("/who")
        .header("x-request-id", "mine")
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .body(Body::empty())
        .unwrap();
    let (head, body) = send(request).await;
    assert_eq!(
        (head.headers()["x-request-id"].to_str().unwrap(), &body["message"]),
        ("mine", &json!("mine"))
    );
    let answered = head.headers()["traceparent"].to_str().unwrap();
    assert!(
        answered.starts_with(&format!("00-{trace}-")) && !answered.contains("b7ad6b7169203331"),
        "{answered}"
    );
    assert_eq!(body["trace_id"], trace);
    assert!(uuid::Uuid::parse_str(body["id"].as_str().unwrap()).is_ok());
}

#[tokio::test]
async fn a_panic_is_a_500_in_the_envelope() {
    let (head, body) = send(Request::get("/panic").body(Body::empty()).unwrap()).await;
    assert_eq!((head.status().as_u16(), &body["error"]), (500, &json!(true)));
    assert!(!body["message"].as_str().unwrap().contains("a mistake\""));
}

#[tokio::test]
async fn what_is_not_a_route_is_answered_in_the_envelope() {
    for (method, path, status) in [("GET", "/nowhere", 404), ("DELETE", "/who", 405)] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (head, body) = send(request).await;
        assert_eq!((head.status().as_u16(), &body["error"]), (status, &json!(true)));
        assert!(body["id"].is_string());
    }
}

#[tokio::test]
async fn a_body_is_json_of_bounded_size() {
    assert_eq!(echo("application/json; charset=utf-8", "[1]").await, (200, "[1]".to_owned()));
    assert_eq!(echo("application/cloudevents+json", " 2 ").await, (200, "2".to_owned()));
    assert_eq!(echo("text/json", "1").await.0, 415);
    assert_eq!(
        echo("application/json", "").await,
        (400, "the body is empty: it must be one JSON value".to_owned())
    );
    assert_eq!(echo("application/json", "1 2").await.0, 400);
    assert_eq!(
        echo("application/json", vec![b'"', 0xff, b'"']).await,
        (400, "the body is not UTF-8: byte 1 is wrong".to_owned())
    );
    let exactly = format!("\"{}\"", "x".repeat(LIMIT - 2));
    assert_eq!(echo("application/json", exactly.clone()).await.0, 200);
    assert_eq!(echo("application/json", exactly + " ").await.0, 413);
}

/// What a client is answered that sends a body of this size, all of it, before it reads anything.
async fn sent_whole(size: usize, content_type: &str) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = CancellationToken::new();
    let server = tokio::spawn(super::server::serve(listener, routes(), stopping.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; size]).await.unwrap();
    let mut answer = [0; 4096];
    let answered = stream.read(&mut answer).await.unwrap();
    drop(stream);
    stopping.cancel();
    server.await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..answered]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_client_that_sends_a_refused_body_to_its_end_gets_the_answer() {
    // More than the buffers of a connection take.
    let size = 7 * LIMIT;
    assert_eq!(sent_whole(size, "application/json").await, "HTTP/1.1 413 Payload Too Large");
    assert_eq!(sent_whole(size, "text/plain").await, "HTTP/1.1 415 Unsupported Media Type");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up() {
    let never = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let (status, message) = echo("application/json", never).await;
    assert_eq!((status, message.as_str()), (408, "the body was not sent within 10 s"));
}

#[tokio::test]
async fn a_503_says_when_to_come_back() {
    use axum::response::IntoResponse as _;
    let response = Answer::unavailable("PostgreSQL").into_response();
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_read_every_answer() {
    const PAGE: &str = "https://console.example.com";
    let rules = CorsLayer::new()
        .allow_origin(AllowOrigin::list([PAGE.parse().unwrap()]))
        .allow_methods([Method::GET, Method::POST])
        .expose_headers([X_REQUEST_ID]);
    let app = edge::wrap(routes(), Some(rules));
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let header =
            |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let allowed = header("access-control-allow-origin");
        (response.status().as_u16(), allowed, header("vary"))
    };
    let page = ("origin", PAGE);
    for (method, path, status) in [
        (Method::GET, "/who", 200),
        (Method::GET, "/nowhere", 404),
        (Method::DELETE, "/who", 405),
        (Method::GET, "/panic", 500),
    ] {
        let (answered, allowed, _) = ask(method, path, &[page]).await;
        assert_eq!((answered, allowed.as_deref()), (status, Some(PAGE)), "{path}");
    }
    let preflight = [page, ("access-control-request-method", "POST")];
    assert_eq!(ask(Method::OPTIONS, "/echo", &preflight).await.1.as_deref(), Some(PAGE));
    assert_eq!(ask(Method::OPTIONS, "/echo", &[]).await.0, 405);
    assert_eq!(ask(Method::GET, "/who", &[("origin", "https://other.example.com")]).await.1, None);
    assert_eq!(ask(Method::GET, "/who", &[]).await, (200, None, Some("origin".to_owned())));
}

/// What a server answers to a request that comes on this connection after the stop; nothing where it has closed it.
async fn asked_after_the_stop() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = CancellationToken::new();
    let server = tokio::spawn(super::server::serve(listener, routes(), stopping.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut answer = [0; 4096];
    stopping.cancel();
    // Refused: the server has taken what waited, and closed its door.
    testkit::eventually(Duration::from_secs(5), "no new connections", || async {
        if TcpStream::connect(address).await.is_err() { Ok(()) } else { Err("still open") }
    })
    .await;
    let answered = match stream.write_all(request).await {
        Ok(()) => stream.read(&mut answer).await.unwrap_or_default(),
        Err(_) => 0,
    };
    drop(stream);
    server.await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..answered]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_whose_connection_was_made_before_the_stop_is_answered() {
    assert_eq!(asked_after_the_stop().await, "HTTP/1.1 200 OK");
}
