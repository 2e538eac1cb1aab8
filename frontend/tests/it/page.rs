//! The page and its settings.

use http::Method;
use testkit::http::{Client, get, post};

use crate::console;

#[tokio::test]
async fn the_page_holds_the_settings_and_is_asked_for_every_time() {
    let (running, url) =
        console(&["--broker-url=https://broker.example/api", "--mail-page-url=http://mail.example:8025"])
            .await;
    let answer = get(&url).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), "no-cache");
    let page = answer.body.as_str().unwrap();
    assert!(page.contains(r#"<meta name="broker-url" content="https://broker.example/api">"#), "{page}");
    assert!(page.contains(r#"<meta name="mail-page-url" content="http://mail.example:8025">"#), "{page}");
    running.stop().await;
}

#[tokio::test]
async fn the_page_may_run_its_own_files_and_call_the_broker_only() {
    let (running, url) = console(&["--broker-url=https://broker.example/api"]).await;
    for path in ["/", "/livez", "/assets/x/js/app.js", "/assets/x/missing.js"] {
        let answer = get(&format!("{url}{path}")).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{path}: {policy}"
        );
        assert!(policy.contains("connect-src 'self' https://broker.example;"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
    }
    let page = get(&url).await.body;
    let page = page.as_str().unwrap();
    for inline in ["style=", "<style", "onclick=", "<script>", "javascript:"] {
        assert!(!page.contains(inline), "the page holds {inline}, which its policy forbids");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_page_that_is_held_is_not_sent_again_until_a_setting_changes() {
    let (running, url) = console(&[]).await;
    let tag = get(&url).await.header("etag").to_owned();
    let again = Client::default().send(Method::GET, &url, &[("if-none-match", &tag)], "").await.unwrap();
    assert_eq!((again.status, again.body.as_str()), (304, Some("")));
    assert!(again.headers.contains_key("content-security-policy"));
    running.stop().await;

    let (running, url) = console(&["--mail-page-url=http://elsewhere.example"]).await;
    let other = Client::default().send(Method::GET, &url, &[("if-none-match", &tag)], "").await.unwrap();
    assert_eq!(other.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_answered_in_the_envelope() {
    let (running, url) = console(&[]).await;
    for path in ["/nothing", "/assets/x/nothing.js", "/assets/x/../src/lib.rs", "/assets/x/%2e%2e/Cargo.toml"]
    {
        let answer = get(&format!("{url}{path}")).await;
        assert_eq!((answer.status, answer.body["error"].as_bool()), (404, Some(true)), "{path}");
        assert!(answer.body["trace_id"].is_string(), "{path}");
    }
    let answer = post(&url, &serde_json::json!({})).await;
    assert_eq!((answer.status, answer.message()), (405, "POST is not allowed at /"));
    running.stop().await;
}

#[tokio::test]
async fn it_needs_no_server_to_be_ready() {
    let (running, url) = console(&["--broker-url=http://127.0.0.1:1"]).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&format!("{url}{path}")).await.status, 200, "{path}");
    }
    running.stop().await;
}
