//! The mail server goes away, hangs and comes back, behind a proxy.

use std::time::{Duration, Instant};

use testkit::eventually;
use testkit::proxy::FaultProxy;

use crate::catcher;
use crate::service::{Mailer, PATIENCE, mail};

async fn through_a_proxy(flags: &[&str]) -> (FaultProxy, Mailer) {
    let proxy = FaultProxy::to(&catcher::smtp()).await;
    let mailer = Mailer::start(proxy.address(), flags).await;
    (proxy, mailer)
}

#[tokio::test]
async fn a_mail_server_that_is_cut_off_is_named_and_found_again() {
    let (proxy, mailer) = through_a_proxy(&[]).await;
    let to = catcher::address();
    assert_eq!(mailer.send(&mail(&to)).await.status, 202);
    mailer.readiness(200).await;

    proxy.cut();
    let answer = mailer.send(&mail(&to)).await;
    assert_eq!(
        (answer.status, answer.message()),
        (503, "the mail server is not available, try again shortly")
    );
    assert!(!answer.header("retry-after").is_empty());
    let answer = mailer.readiness(503).await;
    assert!(answer.message().contains("the mail server"), "{answer:?}");
    assert_eq!(mailer.get("/livez").await.status, 200);

    proxy.restore();
    mailer.readiness(200).await;
    assert_eq!(mailer.send(&mail(&to)).await.status, 202);
    assert_eq!(catcher::mails_to(&to, 2).await.len(), 2);
    mailer.stop().await;
}

#[tokio::test]
async fn a_black_hole_is_not_waited_for() {
    let (proxy, mailer) = through_a_proxy(&["--mail-timeout=1s"]).await;
    let to = catcher::address();
    assert_eq!(mailer.send(&mail(&to)).await.status, 202);

    proxy.stall();
    let started = Instant::now();
    let requests = (0..40).map(|_| {
        let (url, mail) = (format!("{}/send", mailer.base()), mail(&to));
        tokio::spawn(async move { testkit::http::post(&url, &mail).await })
    });
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        assert_eq!((answer.status, answer.message()), (504, "the mail server did not answer in time"));
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let answer = mailer.readiness(503).await;
    assert!(answer.message().contains("the mail server"), "{answer:?}");

    proxy.restore();
    mailer.readiness(200).await;
    assert_eq!(mailer.send(&mail(&to)).await.status, 202);
    // What was refused has not been sent.
    assert_eq!(catcher::mails_to(&to, 2).await.len(), 2);
    mailer.stop().await;
}

#[tokio::test]
async fn it_starts_without_its_mail_server_and_finds_it() {
    let proxy = FaultProxy::to(&catcher::smtp()).await;
    proxy.cut();
    let mailer = Mailer::start(proxy.address(), &[]).await;
    assert_eq!(mailer.get("/livez").await.status, 200);
    let to = catcher::address();
    assert_eq!(mailer.send(&mail(&to)).await.status, 503);
    proxy.restore();
    eventually(PATIENCE, "the mail is sent", || async {
        let answer = mailer.send(&mail(&to)).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(catcher::mails_to(&to, 1).await.len(), 1);
    mailer.stop().await;
}
