//! Encryption: each mode, and everything that must not be taken for it.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::fake::{Act, Encrypted, Fake};
use crate::service::{Mailer, mail};

/// A server's end for `localhost`, and the certificate to trust, as PEM text.
fn acceptor() -> (TlsAcceptor, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}

#[tokio::test]
async fn mails_go_over_both_kinds_of_encryption_and_connections_are_kept() {
    for mode in ["tls", "starttls"] {
        let (acceptor, ca) = acceptor();
        let encrypted = if mode == "tls" {
            Encrypted::FromTheStart(acceptor)
        } else {
            Encrypted::AfterStarttls(acceptor)
        };
        let fake = Fake::start_with(&["PIPELINING", "AUTH PLAIN"], encrypted, |_| Act::Usual).await;
        let (mode, ca) = (format!("--mail-encryption={mode}"), format!("--mail-tls-ca={ca}"));
        let flags = [&mode, &ca, "--mail-username=me", "--mail-password=s3cret", "--mail-pool-size=1"];
        let mailer = Mailer::start_to("localhost", fake.address().port(), &flags).await;
        for _ in 0..3 {
            let answer = mailer.send(&mail("you@example.com")).await;
            assert_eq!(answer.status, 202, "{mode}: {answer:?} {:?}", fake.dialogues());
        }
        mailer.readiness(200).await;
        mailer.stop().await;
        assert_eq!((fake.mails().len(), fake.dialogues().len()), (3, 1), "{:?}", fake.dialogues());
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_not_the_servers_gets_no_mail() {
    for (host, trusted) in [("localhost", false), ("127.0.0.1", true)] {
        let (acceptor, ca) = acceptor();
        let fake = Fake::start_with(&["PIPELINING"], Encrypted::FromTheStart(acceptor), |_| Act::Usual).await;
        let ca = format!("--mail-tls-ca={ca}");
        let flags = ["--mail-encryption=tls", &ca];
        let flags = if trusted { &flags[..] } else { &flags[..1] };
        let mailer = Mailer::start_to(host, fake.address().port(), flags).await;
        let answer = mailer.send(&mail("you@example.com")).await;
        assert_eq!(answer.status, 503, "{host}: {answer:?}");
        assert!(fake.mails().is_empty());
        mailer.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_offer_encryption_gets_no_mail_in_clear() {
    let fake = Fake::start(|_| Act::Usual).await;
    let mailer = Mailer::start(fake.address(), &["--mail-encryption=starttls"]).await;
    let answer = mailer.send(&mail("you@example.com")).await;
    assert_eq!(
        (answer.status, answer.message()),
        (503, "the mail server is not available, try again shortly")
    );
    mailer.stop().await;
    assert!(!fake.dialogues().concat().contains("MAIL"), "{:?}", fake.dialogues());
}

#[tokio::test]
async fn words_that_are_slipped_in_before_the_encryption_are_not_taken_for_the_servers() {
    let (acceptor, ca) = acceptor();
    let fake = Fake::start_with(&["PIPELINING"], Encrypted::AfterStarttls(acceptor), |at| {
        if at.name == "STARTTLS" { Act::Say("220 go on\r\n250 injected\r\n") } else { Act::Usual }
    })
    .await;
    let (mode, ca) = ("--mail-encryption=starttls", format!("--mail-tls-ca={ca}"));
    let mailer = Mailer::start_to("localhost", fake.address().port(), &[mode, &ca]).await;
    let answer = mailer.send(&mail("you@example.com")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(fake.mails().is_empty());
    mailer.stop().await;
}

#[tokio::test]
async fn settings_that_can_give_no_encryption_stop_the_start() {
    use clap::Parser as _;
    for wrong in [
        &["--mail-encryption=tls", "--mail-tls-ca=nonsense"][..],
        &["--mail-encryption=tls", "--mail-host=not a name"],
    ] {
        let config = mailer::Config::parse_from(std::iter::once(&"mailer").chain(wrong));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error =
            mailer::serve(listener, config, &chassis::lifecycle::Lifecycle::default()).await.unwrap_err();
        assert!(error.to_string().contains("MAIL_"), "{error:#}");
    }
}
