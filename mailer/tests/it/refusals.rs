//! What a mail server may answer, and what becomes of the mail and of the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::fake::{Act, At, Encrypted, Fake};
use crate::service::{Mailer, mail};

#[tokio::test]
async fn a_mail_takes_two_turns_and_the_connection_serves_the_next() {
    let fake = Fake::start(|_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
    for _ in 0..3 {
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!((answer.status, answer.message()), (202, "Message sent to you@example.com"));
        assert_eq!(answer.body["error"], false);
    }
    mailer.stop().await;
    assert_eq!(fake.mails().len(), 3);
    let dialogues = fake.dialogues();
    assert_eq!(dialogues.len(), 1, "{dialogues:?}");
    assert!(
        dialogues[0].contains("MAIL RCPT DATA . MAIL RCPT DATA . MAIL RCPT DATA . QUIT"),
        "{dialogues:?}"
    );
}

#[tokio::test]
async fn the_id_of_the_caller_is_the_mails() {
    let fake = Fake::start(|_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    let id = "0190b4a6-5c5e-7cc4-9d5b-0b5a3f6f2a11";
    let answer = mailer.send_as(id, &mail("you@example.com")).await;
    assert_eq!(answer.status, 202);
    let message_id = format!("<{id}@example.com>");
    assert_eq!(answer.body["data"], json!({"id": id, "message_id": message_id}));
    assert!(fake.mails()[0].contains(&format!("Message-ID: {message_id}\r\n")));

    let own = mailer.send(&mail("you@example.com")).await;
    assert_eq!(own.body["data"]["id"], own.body["id"]);
    let refused = mailer.send_as("my-key", &mail("you@example.com")).await;
    assert_eq!((refused.status, fake.mails().len()), (400, 2));
    assert!(refused.message().contains("idempotency-key"), "{refused:?}");
    mailer.stop().await;
}

#[tokio::test]
async fn a_server_without_pipelining_is_asked_step_by_step() {
    let fake = Fake::start_with(&["8BITMIME"], Encrypted::No, |_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    let two = json!({"to": ["a@example.com", "b@example.com"], "subject": "s", "message": "m"});
    assert_eq!(mailer.send(&two).await.status, 202);
    mailer.stop().await;
    assert_eq!(fake.mails().len(), 1);
}

#[tokio::test]
async fn a_recipient_refused_for_good_is_named_and_the_connection_goes_on() {
    let refuse = |at: At<'_>| match (at.name, at.line.contains("nobody@")) {
        ("RCPT", true) => Act::Say("550-5.1.1 no\r\n550 such user\r\n"),
        ("DATA", _) if at.nth == 0 => Act::Say("503 no recipients\r\n"),
        _ => Act::Usual,
    };
    let fake = Fake::start(refuse).await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
    let answer = mailer.send(&mail("nobody@example.com")).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let field = &answer.body["data"]["fields"][0];
    assert_eq!(field["field"], "to[0]");
    assert_eq!(field["message"], "was refused by the mail server: 550 5.1.1 no such user");
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    assert_eq!((fake.mails().len(), fake.dialogues().len()), (1, 1), "{:?}", fake.dialogues());
    mailer.stop().await;
}

#[tokio::test]
async fn where_one_recipient_is_refused_nobody_gets_the_mail() {
    for extensions in [&["PIPELINING"][..], &[]] {
        let refuse = |at: At<'_>| {
            if at.line.contains("nobody@") { Act::Say("550 no such user\r\n") } else { Act::Usual }
        };
        let fake = Fake::start_with(extensions, Encrypted::No, refuse).await;
        let mailer = Mailer::start(fake.address(), &[]).await;
        let to = json!(["a@example.com", "nobody@example.com", "c@example.com"]);
        let answer = mailer.send(&json!({"to": to, "subject": "s", "message": "m"})).await;
        assert_eq!((answer.status, &answer.body["data"]["fields"][0]["field"]), (422, &json!("to[1]")));
        assert!(!fake.dialogues().concat().contains("DATA"), "{:?}", fake.dialogues());
        mailer.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_wants_a_message_for_nobody_does_not_get_one() {
    let fake = Fake::start(|at| match (at.connection, at.name) {
        (0, "RCPT") => Act::Say("550 no such user\r\n"),
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
    assert_eq!(mailer.send(&mail("nobody@example.com")).await.status, 422);
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    mailer.stop().await;
    assert_eq!((fake.mails().len(), fake.dialogues().len()), (1, 2), "{:?}", fake.dialogues());
}

#[tokio::test]
async fn of_a_pipeline_the_first_no_decides_and_the_connection_goes_on() {
    // What a server says to MAIL, RCPT and DATA, where a no to one is the cause of the next.
    let cases = [
        (["250 ok\r\n", "450 greylisted\r\n", "554 no valid recipients\r\n"], 503, "to[0]", "450"),
        (["250 ok\r\n", "450 greylisted\r\n", "503 no valid recipients\r\n"], 503, "to[0]", "450"),
        (["452 full\r\n", "503 need MAIL\r\n", "503 need RCPT\r\n"], 503, "from", "452"),
        (["550 not you\r\n", "451 later\r\n", "451 later\r\n"], 422, "from", "550"),
    ];
    for ([to_mail, to_rcpt, to_data], status, place, code) in cases {
        let fake = Fake::start(move |at| match (at.name, at.nth) {
            ("MAIL", 0) => Act::Say(to_mail),
            ("RCPT", 0) => Act::Say(to_rcpt),
            ("DATA", 0) => Act::Say(to_data),
            _ => Act::Usual,
        })
        .await;
        let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!(answer.status, status, "{to_mail}{to_rcpt}{to_data}: {answer:?}");
        assert!(answer.message().contains(place) && answer.message().contains(code), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_empty(), status == 422, "{answer:?}");
        assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
        mailer.stop().await;
        assert_eq!((fake.mails().len(), fake.dialogues().len()), (1, 1), "{:?}", fake.dialogues());
    }
}

#[tokio::test]
async fn a_recipient_refused_for_good_outweighs_one_refused_for_now() {
    let fake = Fake::start(|at| match (at.name, at.nth) {
        ("RCPT", 0) => Act::Say("450 greylisted\r\n"),
        ("RCPT", 1) => Act::Say("550 no such user\r\n"),
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    let to = json!(["a@example.com", "nobody@example.com"]);
    let answer = mailer.send(&json!({"to": to, "subject": "s", "message": "m"})).await;
    assert_eq!((answer.status, &answer.body["data"]["fields"][0]["field"]), (422, &json!("to[1]")));
    mailer.stop().await;
}

#[tokio::test]
async fn a_no_stands_though_the_server_then_leaves_or_takes_the_data() {
    // None of these connections is good for another mail.
    for then in ["354 go on\r\n", "421 too many errors\r\n", "250 no need\r\n", "what?\r\n", ""] {
        let fake = Fake::start(move |at| match (at.connection, at.name) {
            (0, "RCPT") => Act::Say("450 greylisted\r\n"),
            (0, "DATA") if then.is_empty() => Act::Close,
            (0, "DATA") => Act::Say(then),
            _ => Act::Usual,
        })
        .await;
        let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!(answer.status, 503, "{then}: {answer:?}");
        assert!(answer.message().contains("to[0]"), "{then}: {answer:?}");
        assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
        mailer.stop().await;
        assert_eq!((fake.mails().len(), fake.dialogues().len()), (1, 2), "{:?}", fake.dialogues());
    }
}

#[tokio::test]
async fn every_place_may_refuse_for_good_or_for_now() {
    let cases = [
        ("MAIL", "550 not you\r\n", 422, "from"),
        ("RCPT", "550 not them\r\n", 422, "to[0]"),
        ("DATA", "554 not that\r\n", 422, "mail"),
        (".", "552 too much\r\n", 422, "mail"),
        ("MAIL", "451 later\r\n", 503, "from"),
        ("RCPT", "450 greylisted\r\n", 503, "to[0]"),
        ("DATA", "452 full\r\n", 503, "mail"),
        (".", "451 later\r\n", 503, "mail"),
    ];
    for (at_command, says, status, place) in cases {
        let fake =
            Fake::start(move |at| if at.name == at_command { Act::Say(says) } else { Act::Usual }).await;
        let mailer = Mailer::start(fake.address(), &[]).await;
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!(answer.status, status, "{at_command} {says}: {answer:?}");
        assert!(answer.message().contains("the mail server"), "{answer:?}");
        assert!(answer.message().contains(place) && answer.message().contains(&says[..3]), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_empty(), status == 422);
        mailer.stop().await;
    }
}

#[tokio::test]
async fn only_250_means_taken_and_garbage_is_a_bad_gateway() {
    let cases = [
        (".", "251 maybe\r\n"),
        (".", "354 more\r\n"),
        (".", "taken, thanks\r\n"),
        ("MAIL", "HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("RCPT", "\u{0}\u{1}\u{2}\r\n"),
        ("DATA", "250 no need\r\n"),
    ];
    for (at_command, says) in cases {
        let fake = Fake::start(move |at| {
            if at.connection == 0 && at.name == at_command { Act::Say(says) } else { Act::Usual }
        })
        .await;
        let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
        let id = Uuid::now_v7().to_string();
        let answer = mailer.send_as(&id, &mail("you@example.com")).await;
        assert_eq!(answer.status, 502, "{at_command} {says}: {answer:?}");
        assert_eq!(answer.message(), "the mail server gave an answer that makes no sense");
        // Nobody knows where that connection stands; the next mail has another. This one may be there only if it was
        // handed over.
        assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
        let again = mailer.send_as(&id, &mail("you@example.com")).await;
        assert_eq!(again.status, if at_command == "." { 409 } else { 202 }, "{at_command} {says}: {again:?}");
        mailer.stop().await;
    }
}

#[tokio::test]
async fn an_endless_answer_does_not_fill_the_memory() {
    let fake = Fake::start(|at| match (at.connection, at.name) {
        (0, "MAIL") => {
            Act::Say(Box::leak(format!("250-{}\r\n", "on ".repeat(160)).repeat(1000).into_boxed_str()))
        }
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 502);
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    mailer.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_payload_is_said_before_the_mail_server_hears_of_it() {
    let fake = Fake::start(|_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    let fields = |answer: &testkit::http::Response| answer.body["data"]["fields"].clone();
    let answer = mailer.send(&json!({"to": "a@b\r\nBcc: c@d.e", "subject": "", "message": "m"})).await;
    assert_eq!((answer.status, fields(&answer).as_array().map(Vec::len)), (422, Some(2)), "{answer:?}");
    let answer = mailer.send(&json!({"to": "a@example.com", "subject": "s", "template": "nope"})).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.message(), "mail: template is not one of notification, plain, welcome");
    let answer = mailer.send(&json!({"to": "a@example.com", "subject": "s", "template": "welcome"})).await;
    assert_eq!(fields(&answer)[0]["field"], "context.name", "{answer:?}");
    let answer = mailer.send(&json!([])).await;
    assert_eq!((answer.status, answer.message()), (422, "mail: mail must be an object, not a list"));
    assert!(!fake.dialogues().concat().contains("MAIL"));
    mailer.stop().await;
}

#[tokio::test]
async fn an_address_beyond_ascii_needs_a_server_that_takes_it() {
    let fake = Fake::start(|_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    let answer = mailer.send(&mail("jürgen@example.com")).await;
    assert_eq!(
        (answer.status, &answer.body["data"]["fields"][0]["field"]),
        (422, &json!("to[0]")),
        "{answer:?}"
    );
    // A domain alone has an ASCII form.
    assert_eq!(mailer.send(&mail("juergen@bücher.example")).await.status, 202);
    mailer.stop().await;

    let fake = Fake::start_with(&["PIPELINING", "8BITMIME", "SMTPUTF8"], Encrypted::No, |_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    assert_eq!(mailer.send(&mail("jürgen@example.com")).await.status, 202);
    mailer.stop().await;
}

#[tokio::test]
async fn an_answer_may_go_beyond_ascii_only_where_the_server_takes_that() {
    let mail =
        json!({"to": "a@example.com", "reply_to": "jürgen@example.com", "subject": "s", "message": "m"});
    let cases = [
        (&["PIPELINING", "8BITMIME"][..], None),
        (&["PIPELINING", "8BITMIME", "SMTPUTF8"], Some("> SMTPUTF8 BODY=8BITMIME\r\n")),
        // Against RFC 6531, but a parameter that was not offered would be an error of ours.
        (&["PIPELINING", "SMTPUTF8"], Some("> SMTPUTF8\r\n")),
    ];
    for (extensions, parameters) in cases {
        let fake = Fake::start_with(extensions, Encrypted::No, move |at| match (at.name, parameters) {
            ("MAIL", Some(parameters)) if !at.line.ends_with(parameters) => {
                Act::Say("555 not these parameters\r\n")
            }
            _ => Act::Usual,
        })
        .await;
        let mailer = Mailer::start(fake.address(), &[]).await;
        let answer = mailer.send(&mail).await;
        mailer.stop().await;
        if parameters.is_some() {
            assert_eq!(answer.status, 202, "{extensions:?}: {answer:?}");
            assert!(fake.mails()[0].contains("Reply-To: jürgen@example.com\r\n"));
        } else {
            let field = &answer.body["data"]["fields"][0]["field"];
            assert_eq!((answer.status, field), (422, &json!("reply_to")), "{answer:?}");
            assert!(!fake.dialogues().concat().contains("MAIL"), "{:?}", fake.dialogues());
        }
    }
}

#[tokio::test]
async fn the_login_is_made_once_a_connection_and_a_wrong_one_is_the_mailers_trouble() {
    const AUTH: &[&str] = &["PIPELINING", "AUTH PLAIN LOGIN"];
    let flags = ["--mail-username=me", "--mail-password=s3cret", "--mail-pool-size=1"];
    // "\0me\0s3cret"
    let fake = Fake::start_with(AUTH, Encrypted::No, |at| match at.name {
        "AUTH" if at.line != "AUTH PLAIN AG1lAHMzY3JldA==\r\n" => Act::Say("535 who?\r\n"),
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &flags).await;
    for _ in 0..2 {
        assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    }
    mailer.stop().await;
    assert_eq!(fake.dialogues().concat().matches("AUTH").count(), 1);

    let fake = Fake::start_with(AUTH, Encrypted::No, |at| {
        if at.name == "AUTH" { Act::Say("535 who?\r\n") } else { Act::Usual }
    })
    .await;
    let mailer = Mailer::start(fake.address(), &flags).await;
    let answer = mailer.send(&mail("you@example.com")).await;
    assert_eq!(
        (answer.status, answer.message()),
        (503, "the mail server is not available, try again shortly")
    );
    mailer.readiness(503).await;
    mailer.stop().await;
}

#[tokio::test]
async fn an_answer_to_the_login_that_no_column_can_hold_is_kept_as_one_that_can() {
    let mends = Arc::new(AtomicBool::new(false));
    let mended = Arc::clone(&mends);
    let fake = Fake::start_with(&["AUTH PLAIN"], Encrypted::No, move |at| {
        let garbles = at.name == "AUTH" && !mended.load(Ordering::SeqCst);
        if garbles { Act::Say("\u{0}\u{1}\u{2}\r\n") } else { Act::Usual }
    })
    .await;
    let mailer = Mailer::start(fake.address(), &["--mail-username=me", "--mail-password=s3cret"]).await;
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 503);
    mends.store(true, Ordering::SeqCst);
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    mailer.stop().await;
}

#[tokio::test]
async fn beyond_what_may_be_in_hand_a_mail_is_refused_at_once() {
    let go_on = Arc::new(Notify::new());
    let hold = Arc::clone(&go_on);
    let fake = Fake::start(move |at| {
        let first = (at.connection, at.name, at.nth) == (0, "MAIL", 0);
        if first { Act::Hold(Arc::clone(&hold)) } else { Act::Usual }
    })
    .await;
    let flags = ["--mail-room-mib=1", "--mail-pool-size=1", "--mail-timeout=1m", "--mail-lease=2m"];
    let mailer = Mailer::start(fake.address(), &flags).await;
    let mut large = mail("you@example.com");
    large["message"] = json!("so much to say ".repeat(6_000));
    let mut sending: FuturesUnordered<_> = (0..16).map(|_| mailer.send(&large)).collect();
    // All that is answered while the mail server does nothing.
    let answer = sending.next().await.unwrap();
    let message = "too many mails are in hand, try again shortly";
    assert_eq!((answer.status, answer.message()), (429, message));
    go_on.notify_one();
    let mut sent = 0;
    while let Some(answer) = sending.next().await {
        assert!(answer.status == 202 || answer.message() == message, "{answer:?}");
        sent += usize::from(answer.status == 202);
    }
    drop(sending);
    assert!((4..16).contains(&sent), "{sent}");
    assert_eq!(fake.mails().len(), sent);
    // There is room again, also for one that is alone as large as all of it.
    large["message"] = json!("so much to say ".repeat(60_000));
    assert_eq!(mailer.send(&large).await.status, 202);
    mailer.stop().await;
}
