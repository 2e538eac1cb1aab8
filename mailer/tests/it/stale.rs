//! Connections that break, hang or have gone stale, and mails that may or may not have been taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::fake::{Act, Fake};
use crate::service::{Mailer, PATIENCE, mail};

#[tokio::test]
async fn a_connection_that_the_server_has_closed_since_costs_no_mail() {
    // Closed after the first mail; closed or given up at the second; a new connection is fine.
    type Script = fn(crate::fake::At<'_>) -> Act;
    let scripts: [Script; 4] = [
        |at| if at.name == "." { Act::UsualAndClose } else { Act::Usual },
        |at| if (at.name, at.nth) == ("MAIL", 1) { Act::Close } else { Act::Usual },
        |at| if (at.name, at.nth) == ("MAIL", 1) { Act::Say("421 too many mails\r\n") } else { Act::Usual },
        |at| if (at.name, at.nth) == ("DATA", 1) { Act::Close } else { Act::Usual },
    ];
    for script in scripts {
        let fake = Fake::start(script).await;
        let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
        for _ in 0..4 {
            let answer = mailer.send(&mail("you@example.com")).await;
            assert_eq!(answer.status, 202, "{answer:?} {:?}", fake.dialogues());
        }
        mailer.stop().await;
        assert_eq!(fake.mails().len(), 4);
        assert!(fake.dialogues().len() > 1);
    }
}

#[tokio::test]
async fn a_new_connection_that_breaks_before_the_message_is_a_clear_no() {
    for at_command in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"] {
        let fake = Fake::start(move |at| if at.name == at_command { Act::Close } else { Act::Usual }).await;
        let mailer = Mailer::start(fake.address(), &[]).await;
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!(answer.status, 503, "{at_command}: {answer:?}");
        assert_eq!(answer.message(), "the mail server is not available, try again shortly");
        assert!(!answer.header("retry-after").is_empty());
        assert!(fake.mails().is_empty());
        mailer.stop().await;
    }
}

#[tokio::test]
async fn a_mail_that_may_have_been_taken_is_never_sent_again() {
    let fake = Fake::start(|at| match (at.name, at.nth) {
        (".", 1) => Act::Close,
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    let (id, mail) = (Uuid::now_v7().to_string(), mail("you@example.com"));
    let answer = mailer.send_as(&id, &mail).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.message(), "the mail server went away at the end of the mail and may have taken it");
    // Not before the lease has run out, though it would be taken now.
    let again = mailer.send_as(&id, &mail).await;
    assert_eq!(again.status, 409, "{again:?}");
    assert!((1..=30).contains(&again.header("retry-after").parse::<u64>().unwrap()));
    assert_eq!(fake.mails().len(), 2);
    mailer.stop().await;
}

#[tokio::test]
async fn a_message_that_is_turned_down_is_not_offered_again() {
    let fake = Fake::start(|at| match (at.name, at.nth) {
        (".", 1) => Act::Say("421 closing\r\n"),
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=1"]).await;
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    let answer = mailer.send(&mail("you@example.com")).await;
    assert_eq!((answer.status, fake.mails().len()), (503, 2), "{answer:?}");
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    mailer.stop().await;
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for_and_its_connection_is_closed() {
    let cases = [
        ("CONNECT", "the mail server did not answer in time", 1),
        ("MAIL", "the mail server did not answer in time", 1),
        ("DATA", "the mail server did not answer in time", 1),
        (".", "the mail server did not answer in time and may have taken the mail", 2),
    ];
    for (at_command, message, mails) in cases {
        let slow = Arc::new(AtomicBool::new(true));
        let is_slow = Arc::clone(&slow);
        let fake = Fake::start(move |at| {
            let hangs = at.name == at_command && is_slow.load(Ordering::Relaxed);
            if hangs { Act::Nothing } else { Act::Usual }
        })
        .await;
        let flags = ["--mail-timeout=1s", "--mail-answer-timeout=400ms", "--mail-pool-size=1"];
        let mailer = Mailer::start(fake.address(), &flags).await;
        let started = Instant::now();
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!((answer.status, answer.message()), (504, message), "{at_command}");
        assert!(started.elapsed() < Duration::from_secs(5));
        slow.store(false, Ordering::Relaxed);
        // A look at the server that began while it was slow may still hold the one connection.
        mailer.readiness(200).await;
        assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202, "{at_command}");
        mailer.stop().await;
        assert_eq!(fake.mails().len(), mails, "{at_command}");
    }
}

#[tokio::test]
async fn a_mail_goes_on_when_its_client_has_left() {
    let go = Arc::new(Notify::new());
    let until = Arc::clone(&go);
    let fake = Fake::start(move |at| match at.name {
        "RCPT" => Act::Hold(Arc::clone(&until)),
        _ => Act::Usual,
    })
    .await;
    let mailer = Mailer::start(fake.address(), &[]).await;
    let url = format!("{}/send", mailer.base());
    let client = tokio::spawn(async move { testkit::http::post(&url, &mail("you@example.com")).await });
    testkit::eventually(PATIENCE, "the mail is under way", || async {
        if fake.dialogues().concat().contains("RCPT") { Ok(()) } else { Err("not yet") }
    })
    .await;
    client.abort();
    client.await.unwrap_err();
    // A stop waits for the mail too.
    let mut stopping = tokio::spawn(mailer.stop());
    tokio::time::timeout(Duration::from_millis(500), &mut stopping).await.unwrap_err();
    go.notify_one();
    stopping.await.unwrap();
    assert_eq!(fake.mails().len(), 1);
}

#[tokio::test]
async fn there_are_never_more_connections_than_the_pool_has() {
    let fake = Fake::start(|_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &["--mail-pool-size=3"]).await;
    let mails = (0..60).map(|i| {
        let (url, mail) = (format!("{}/send", mailer.base()), mail(&format!("you{i}@example.com")));
        tokio::spawn(async move { testkit::http::post(&url, &mail).await.status })
    });
    for sending in mails.collect::<Vec<_>>() {
        assert_eq!(sending.await.unwrap(), 202);
    }
    mailer.stop().await;
    assert_eq!(fake.mails().len(), 60);
    assert!(fake.most_open() <= 3, "{}", fake.most_open());
}
