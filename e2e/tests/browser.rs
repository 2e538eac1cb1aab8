//! The test console in a real browser: what people click, and what they see.

use e2e::browser::Browser;
use e2e::catcher::mail_to;
use e2e::publisher::publish;
use e2e::system::{SOON, System, unique};
use serde_json::json;
use testkit::{eventually, setting};
use uuid::Uuid;

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

#[tokio::test]
async fn what_was_queued_is_followed_to_its_end() {
    let (_, browser) = console().await;
    let to = format!("{}@example.com", unique("trail"));
    let mail = json!({"action": "mail", "mail": {"to": to, "subject": "From the page", "message": "Later"}});
    browser.click("#action-mail").await;
    browser.write("#payload", &mail.to_string()).await;
    browser.click("#async").await;
    send(&browser, "202").await;
    browser.text("#trail-state", |state| state == "done").await;
    let trail = browser.text("#trail", |_| true).await;
    let mut at = 0;
    for step in ["queued", "broker", "delivered", "mailer, attempt 1", "done"] {
        let found = trail[at..].find(step);
        at += found.unwrap_or_else(|| panic!("{step} is missing: {trail}"));
    }
    assert_eq!(mail_to(&to).await.subject, "From the page");
    no_mistakes(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn a_dead_letter_is_found_by_its_action_mended_and_replayed() {
    let (system, browser) = console().await;
    let (id, name) = (Uuid::now_v7(), unique("mended"));
    publish("logs_topic", "log.ERROR", id, json!({"name": name}).to_string().as_bytes()).await;

    letters(&browser, &format!("/{id}")).await;
    listed(&browser, "data is required", 1).await;
    browser.text("#letter-reason", |reason| reason == "data is required").await;
    browser.text("#letter", |text| text.contains(&id.to_string()) && text.contains("switchboard.log")).await;
    browser.write("#letter-body", &json!({"name": name, "data": "mended"}).to_string()).await;
    browser.text("#letter-edited", |text| text.starts_with("edited")).await;
    // What was edited is not replayed with many, as it was before.
    browser.click("#letters-all").await;
    browser.click("#letters-replay").await;
    browser.text("#letters-note", |text| text.starts_with("One of these was edited")).await;
    browser.click("#letter-replay").await;
    browser.text("#letter-state", |state| state == "replayed").await;
    browser.text("#letter-trail-state", |state| state == "done").await;
    browser.text("#letters-note", |text| text == "No letter is dead and fits.").await;
    assert_eq!(system.entry(&name).await["data"], "mended");
    no_mistakes(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn dead_letters_are_discarded_one_and_many_with_a_reason() {
    let (_, browser) = console().await;
    // It is in the reason, as what was found instead of an event.
    let name = unique("no-event");
    for _ in 0..3 {
        publish("", "switchboard.mail", Uuid::now_v7(), json!(name).to_string().as_bytes()).await;
    }
    letters(&browser, "").await;
    browser.write("#letters-text", &name).await;
    listed(&browser, &name, 3).await;
    browser.text("#letter-reason", |reason| reason.contains(&name)).await;

    browser.click("#letter-discard").await;
    browser.text("#letter-note", |text| text.starts_with("Say why")).await;
    browser.write("#letter-why", "a test").await;
    browser.click("#letter-discard").await;
    browser.text("#letter-state", |state| state == "discarded").await;
    browser.text("#letter", |text| text.contains("a test")).await;

    listed(&browser, &name, 2).await;
    browser.click("#letters-all").await;
    browser.text("#letters-selected", |text| text == "2 letters:").await;
    browser.click("#letters-discard").await;
    browser.text("#letters-note", |text| text.starts_with("Say why")).await;
    browser.write("#letters-reason", "more tests").await;
    browser.click("#letters-discard").await;
    browser.text("#letters-note", |text| text == "Discarded: 2 of 2").await;
    listed(&browser, &name, 0).await;
    browser.text("#letters-note", |text| text == "No letter is dead and fits.").await;
    no_mistakes(&browser).await;
    browser.close().await;
}

/// Opens the view of the dead letters; those of one action, where there is one.
async fn letters(browser: &Browser, action: &str) {
    browser.open(&format!("{}#dead-letters{action}", setting("FRONTEND_URL"))).await;
    browser.text("#letters-title", |title| title == "Dead letters").await;
}

/// Looks again until so many letters with this reason are listed: a message takes its time to die.
async fn listed(browser: &Browser, reason: &str, many: usize) {
    eventually(SOON, reason, || async {
        browser.click("#letters-filter button").await;
        let list = browser.text("#letters:not([aria-busy])", |_| true).await;
        if list.matches(reason).count() == many { Ok(()) } else { Err(list) }
    })
    .await;
}
