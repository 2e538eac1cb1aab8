//! The test console in a real browser: what people click, and what they see.

use e2e::browser::Browser;
use e2e::catcher::mail_to;
use e2e::system::{System, unique};
use serde_json::json;
use testkit::setting;

async fn console() -> (System, Browser) {
    let system = System::healthy().await;
    let browser = Browser::start().await;
    browser.open(&setting("FRONTEND_URL")).await;
    (system, browser)
}

/// Sends what is in the editor and waits for the status.
async fn send(browser: &Browser, status: &str) {
    browser.click("#send").await;
    browser.text("#status", |text| text.starts_with(status)).await;
}

/// The browser notes answers that are not 2xx on its own account; everything else is a mistake of the page.
async fn no_mistakes(browser: &Browser) {
    let console = browser.console().await;
    let mistakes: Vec<_> =
        console.iter().filter(|line| !line.contains("the server responded with a status of")).collect();
    assert!(mistakes.is_empty(), "{mistakes:?}");
}

#[tokio::test]
async fn each_button_shows_what_was_sent_and_received() {
    let (_, browser) = console().await;
    for (action, status, message) in [
        ("broker", "200", "Hit the Broker"),
        ("auth", "202", "Authenticated!"),
        ("log", "202", "Logged via RPC: "),
        ("mail", "202", "Message sent to "),
    ] {
        browser.click(&format!("#action-{action}")).await;
        send(&browser, status).await;
        let shown = browser.text("#message", |text| text.starts_with(message)).await;
        browser.text("#received", |text| text.contains(shown.as_str())).await;
        browser.text("#sent", |text| text.contains("POST /")).await;
        browser.text("#duration", |text| text.contains("ms") || text.contains('s')).await;
    }
    let mail_page = browser.attribute("#mail-page", "href").await.unwrap_or_default();
    assert_eq!(mail_page.trim_end_matches('/'), setting("MAIL_PAGE_URL").trim_end_matches('/'));
    browser.text("#health-word", |text| !text.contains("Asking")).await;
    no_mistakes(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn an_edited_log_is_stored_under_the_trace_that_the_page_shows() {
    let (system, browser) = console().await;
    for via_queue in [false, true] {
        let name = unique("page");
        browser.click("#action-log").await;
        browser
            .write("#payload", &json!({"action": "log", "log": {"name": name, "data": "edited"}}).to_string())
            .await;
        if via_queue {
            browser.click("#async").await;
        }
        browser.click("#send").await;
        browser.text("#message", |text| text.contains(&name)).await;
        let trace_id = browser.text("#trace-id", |text| text.len() == 32).await;
        assert_eq!(system.entry(&name).await["trace_id"], json!(trace_id));
    }
    no_mistakes(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn an_edited_mail_arrives() {
    let (_, browser) = console().await;
    let to = format!("{}@example.com", unique("page"));
    let mail = json!({"action": "mail", "mail": {"to": to, "subject": "From the page", "message": "Hello"}});
    browser.click("#action-mail").await;
    browser.write("#payload", &mail.to_string()).await;
    send(&browser, "202").await;
    assert_eq!(mail_to(&to).await.subject, "From the page");
    browser.close().await;
}

#[tokio::test]
async fn what_the_broker_refuses_is_shown() {
    let (_, browser) = console().await;
    for (payload, status, message) in [
        ("{ not json", "400", "must be one JSON value"),
        (r#"{"action":"log","log":{}}"#, "422", "name is required"),
    ] {
        browser.click("#action-log").await;
        browser.write("#payload", payload).await;
        send(&browser, status).await;
        browser.text("#message", |text| text.contains(message)).await;
    }
    no_mistakes(&browser).await;
    browser.close().await;
}
