//! The real mail catcher of the stack: what has arrived, as another program reads it.

use serde_json::{Value, json};
use testkit::{eventually, setting};

use crate::service::{Mailer, PATIENCE, mail};

/// Where the catcher takes mails.
pub(crate) fn smtp() -> String {
    format!("{}:{}", setting("MAIL_HOST"), setting("MAIL_PORT"))
}

/// An address of one's own.
pub(crate) fn address() -> String {
    format!("{}you@example.com", testkit::namespace())
}

/// The mails to an address, once there are `count`.
pub(crate) async fn mails_to(address: &str, count: usize) -> Vec<Value> {
    let page = format!("{}/email", setting("MAIL_PAGE_URL"));
    eventually(PATIENCE, &format!("{count} mails to {address}"), || async {
        let all = testkit::http::Client::default().get(&page).await?.body;
        let mine: Vec<_> = all.as_array().into_iter().flatten().filter(|mail| is_to(mail, address)).collect();
        if mine.len() >= count {
            Ok(mine.into_iter().cloned().collect())
        } else {
            Err(format!("{} are there", mine.len()))
        }
    })
    .await
}

fn is_to(mail: &Value, address: &str) -> bool {
    let recipients = mail["envelope"]["to"].as_array();
    recipients.into_iter().flatten().any(|to| to["address"].as_str() == Some(address))
}

async fn start() -> Mailer {
    Mailer::start_to(&setting("MAIL_HOST"), setting("MAIL_PORT").parse().unwrap(), &[]).await
}

#[tokio::test]
async fn the_mail_of_existing_clients_arrives() {
    let (mailer, to) = (start().await, address());
    let answer = mailer.send(&mail(&to)).await;
    assert_eq!((answer.status, answer.message()), (202, &*format!("Message sent to {to}")));
    let arrived = &mails_to(&to, 1).await[0];
    assert_eq!(arrived["subject"], "Hi");
    assert_eq!(arrived["from"], json!([{"address": "me@example.com", "name": "Me"}]));
    assert_eq!(arrived["text"].as_str().map(str::trim), Some("Hello"));
    let html = arrived["html"].as_str().unwrap();
    assert!(html.contains("Hello</p>") && html.contains("style=\""), "{html}");
    let id = answer.body["data"]["message_id"].as_str().unwrap().trim_matches(['<', '>']);
    assert!(arrived["messageId"].as_str().unwrap().contains(id), "{arrived}");
    mailer.stop().await;
}

#[tokio::test]
async fn everything_that_a_mail_can_have_arrives() {
    let (mailer, to, cc, bcc) = (start().await, address(), address(), address());
    let message = format!("Grüße 😀\r\n.\r\n..\r\nFrom me\n{}", "lang ".repeat(500));
    let everything = json!({
        "from": "Zoë \u{201c}Z\u{201d} Ångström, Inc. <zoe@example.com>",
        "to": [format!("Jörg <{to}>")],
        "cc": [cc],
        "bcc": [bcc],
        "reply_to": "Antwort <re@example.com>",
        "subject": "Übersicht: \u{1F4C8} für das 2. Quartal, mit einem recht langen Betreff, der gefaltet wird",
        "message": message,
        "attachments": [
            {"filename": "Übersicht für Jörg.csv", "content_type": "text/csv", "content": "YSxiCjEsMgo="},
            {"filename": "a \"b\" \\c.bin", "content": "AP8NCi4NCg=="}
        ]
    });
    let answer = mailer.send(&everything).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    for address in [&to, &cc, &bcc] {
        let arrived = &mails_to(address, 1).await[0];
        assert_eq!(
            arrived["subject"],
            "Übersicht: \u{1F4C8} für das 2. Quartal, mit einem recht langen Betreff, der gefaltet wird"
        );
        assert_eq!(arrived["from"][0]["name"], "Zoë \u{201c}Z\u{201d} Ångström, Inc.");
        assert_eq!(arrived["to"], json!([{"address": to, "name": "Jörg"}]));
        assert_eq!(arrived["cc"][0]["address"], json!(cc));
        assert_eq!(arrived["replyTo"][0]["address"], "re@example.com");
        assert!(!arrived["headers"].to_string().contains(bcc.as_str()), "{}", arrived["headers"]);
        let text = arrived["text"].as_str().unwrap();
        assert_eq!(text.trim(), message.replace("\r\n", "\n").trim());
        let files = arrived["attachments"].as_array().unwrap();
        let of = |i: usize, key: &str| files[i][key].clone();
        assert_eq!(
            (of(0, "fileName"), of(0, "contentType")),
            (json!("Übersicht für Jörg.csv"), json!("text/csv"))
        );
        assert_eq!((of(1, "fileName"), of(1, "length")), (json!("a \"b\" \\c.bin"), json!(7)));
    }
    mailer.stop().await;
}

#[tokio::test]
async fn a_template_and_given_html_arrive_as_they_are_meant() {
    let (mailer, to) = (start().await, address());
    let context = json!({"name": "Ada <x>", "login_url": "https://x.example/?a=1&b=2"});
    let welcome = json!({"to": to, "subject": "W", "template": "welcome", "context": context});
    assert_eq!(mailer.send(&welcome).await.status, 202);
    let given = json!({"to": to, "subject": "H", "html": "<p class=\"x\">Äpfel &amp; <i>Birnen</i></p>"});
    assert_eq!(mailer.send(&given).await.status, 202);
    let arrived = mails_to(&to, 2).await;
    let of = |subject: &str| arrived.iter().find(|mail| mail["subject"] == subject).unwrap();
    let html = of("W")["html"].as_str().unwrap();
    assert!(html.contains("Welcome, Ada &lt;x&gt;!") && html.contains("?a=1&amp;b=2\""), "{html}");
    assert_eq!(of("W")["from"][0], json!({"address": "box@example.com", "name": "Switchboard"}));
    let html = of("H")["html"].as_str().unwrap();
    assert!(html.contains("<p class=\"x\">Äpfel &amp; <i>Birnen</i></p>"), "{html}");
    assert_eq!(of("H")["text"].as_str().map(str::trim), Some("Äpfel & Birnen"));
    mailer.stop().await;
}
