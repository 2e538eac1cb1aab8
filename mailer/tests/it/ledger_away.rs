//! The ledger is away: before a mail is claimed, and after it was handed over.

use std::sync::Arc;

use testkit::eventually;
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;
use uuid::Uuid;

use crate::fake::{Act, Fake};
use crate::service::{Mailer, PATIENCE, mail};

/// A mailer whose ledger can be cut off.
struct Stand {
    server: Fake,
    ledger: Arc<FaultProxy>,
    mailer: Mailer,
    _database: TestDatabase,
}

impl Stand {
    /// With `cut_at_the_end` the ledger is cut off when the first mail is at its end, and the mail server takes it.
    async fn start(cut_at_the_end: bool, flags: &[&str]) -> Self {
        let database = TestDatabase::create("DSN").await;
        let ledger = Arc::new(FaultProxy::to(&database.server()).await);
        let cut = Arc::clone(&ledger);
        let server = Fake::start(move |at| {
            if cut_at_the_end && at.name == "." {
                cut.cut();
            }
            Act::Usual
        })
        .await;
        let (dsn, port) = (database.dsn_through(ledger.address()), server.address().port());
        let mailer = Mailer::start_on(&dsn, "127.0.0.1", port, flags).await;
        mailer.readiness(200).await;
        Self { server, ledger, mailer, _database: database }
    }
}

#[tokio::test]
async fn without_the_ledger_nothing_is_sent_and_it_is_found_again() {
    let Stand { server, ledger, mailer, _database } = Stand::start(false, &[]).await;
    ledger.cut();
    let answer = mailer.send(&mail("you@example.com")).await;
    assert_eq!((answer.status, answer.message()), (503, "PostgreSQL is not available, try again shortly"));
    assert!(mailer.readiness(503).await.message().contains("PostgreSQL"));
    assert!(server.mails().is_empty());
    ledger.restore();
    mailer.readiness(200).await;
    assert_eq!(mailer.send(&mail("you@example.com")).await.status, 202);
    mailer.stop().await;
}

#[tokio::test]
async fn an_outcome_waits_for_the_ledger_to_come_back() {
    let Stand { server, ledger, mailer, _database } = Stand::start(true, &[]).await;
    let (id, mail) = (Uuid::now_v7().to_string(), mail("you@example.com"));
    let (answer, ()) = tokio::join!(mailer.send_as(&id, &mail), async {
        eventually(PATIENCE, "the mail is taken", || async {
            if server.mails().is_empty() { Err("not yet") } else { Ok(()) }
        })
        .await;
        mailer.readiness(503).await;
        ledger.restore();
    });
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(mailer.send_as(&id, &mail).await.status, 202);
    assert_eq!(server.mails().len(), 1);
    mailer.stop().await;
}

#[tokio::test]
async fn who_asked_is_told_that_an_outcome_cannot_be_recorded_and_it_is_recorded_all_the_same() {
    let Stand { server, ledger, mailer, _database } = Stand::start(true, &["--mail-timeout=1s"]).await;
    let (id, mail) = (Uuid::now_v7().to_string(), mail("you@example.com"));
    let answer = mailer.send_as(&id, &mail).await;
    let message = "PostgreSQL is not available, and the mail may have been sent";
    assert_eq!((answer.status, answer.message()), (503, message));
    ledger.restore();
    eventually(PATIENCE, "it is recorded", || async {
        let answer = mailer.send_as(&id, &mail).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(server.mails().len(), 1);
    mailer.stop().await;
}
