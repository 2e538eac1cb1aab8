//! One id, one mail: however often it is asked for, of whichever replica.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::Connection as _;
use testkit::eventually;
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::fake::{Act, At, Fake};
use crate::service::{Mailer, PATIENCE, mail};

/// Two mailers that share a ledger and a mail server.
struct Two {
    server: Fake,
    mailers: [Mailer; 2],
    database: TestDatabase,
}

impl Two {
    async fn start(server: Fake, flags: &[&str]) -> Self {
        let database = TestDatabase::create("DSN").await;
        let address = server.address();
        let start = || Mailer::start_on(database.dsn(), "127.0.0.1", address.port(), flags);
        let mailers = [start().await, start().await];
        for mailer in &mailers {
            mailer.has_its_ledger().await;
        }
        Self { server, mailers, database }
    }

    async fn stop(self) {
        for mailer in self.mailers {
            mailer.stop().await;
        }
    }
}

fn id() -> String {
    Uuid::now_v7().to_string()
}

#[tokio::test]
async fn a_mail_that_was_sent_is_answered_the_same_and_not_sent_again() {
    let two = Two::start(Fake::start(|_| Act::Usual).await, &[]).await;
    let (id, mail) = (id(), mail("you@example.com"));
    let first = two.mailers[0].send_as(&id, &mail).await;
    let second = two.mailers[1].send_as(&id, &mail).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.body["data"], second.body["data"]);
    assert_eq!(first.message(), second.message());
    assert_eq!(two.server.mails().len(), 1);
    two.stop().await;
}

#[tokio::test]
async fn of_many_at_once_one_is_sent() {
    let two = Two::start(Fake::start(|_| Act::Usual).await, &[]).await;
    let (id, mail) = (id(), mail("you@example.com"));
    let answers = join_all((0..40).map(|i| two.mailers[i % 2].send_as(&id, &mail))).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 202 | 409)), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.status == 202));
    assert_eq!(two.mailers[0].send_as(&id, &mail).await.status, 202);
    assert_eq!(two.server.mails().len(), 1);
    two.stop().await;
}

#[tokio::test]
async fn the_id_of_another_mail_is_a_conflict() {
    let two = Two::start(Fake::start(|_| Act::Usual).await, &[]).await;
    let id = id();
    assert_eq!(two.mailers[0].send_as(&id, &mail("you@example.com")).await.status, 202);
    let answer = two.mailers[1].send_as(&id, &mail("other@example.com")).await;
    assert_eq!(
        (answer.status, answer.message()),
        (409, "the Idempotency-Key was used before with another payload")
    );
    assert_eq!(two.server.mails().len(), 1);
    two.stop().await;
}

#[tokio::test]
async fn while_a_mail_is_being_sent_the_same_is_told_to_wait() {
    let go_on = Arc::new(Notify::new());
    let hold = Arc::clone(&go_on);
    let server =
        Fake::start(move |at| if at.name == "." { Act::Hold(Arc::clone(&hold)) } else { Act::Usual }).await;
    let two = Two::start(server, &[]).await;
    let (id, mail) = (id(), mail("you@example.com"));
    let (first, second) = tokio::join!(two.mailers[0].send_as(&id, &mail), async {
        eventually(PATIENCE, "the mail is handed over", || async {
            if two.server.dialogues().iter().any(|dialogue| dialogue.contains("DATA")) {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await;
        let answer = two.mailers[1].send_as(&id, &mail).await;
        go_on.notify_one();
        answer
    });
    assert_eq!((first.status, second.status), (202, 409));
    let seconds: u64 = second.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds));
    assert_eq!(two.server.mails().len(), 1);
    two.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_its_time_to_say_yes_gets_no_second_copy() {
    let go_on = Arc::new(Notify::new());
    let hold = Arc::clone(&go_on);
    let server =
        Fake::start(move |at| if at.name == "." { Act::Hold(Arc::clone(&hold)) } else { Act::Usual }).await;
    let two = Two::start(server, &["--mail-timeout=300ms", "--mail-lease=5500ms"]).await;
    let (id, mail) = (id(), mail("you@example.com"));
    let answer = two.mailers[0].send_as(&id, &mail).await;
    let message = "the mail server did not answer in time and may have taken the mail";
    assert_eq!((answer.status, answer.message()), (504, message));
    // The lease is renewed, as long as it takes, long before it ends.
    let mut connection = sqlx::PgConnection::connect(two.database.dsn()).await.unwrap();
    let mut lasts = async || -> f64 {
        let times = "SELECT extract(epoch FROM lease_until - created_at)::float8, \
                     extract(epoch FROM lease_until - now())::float8 FROM mails";
        let (lasts, left): (f64, f64) = sqlx::query_as(times).fetch_one(&mut connection).await.unwrap();
        assert!(left > 1.5, "{left} of 5.5 seconds are left");
        lasts
    };
    let begun = lasts().await;
    while lasts().await < begun + 5.5 {
        let answer = two.mailers[1].send_as(&id, &mail).await;
        assert_eq!(answer.status, 409, "{answer:?}");
    }
    go_on.notify_one();
    eventually(PATIENCE, "the mail is sent", || async {
        let answer = two.mailers[1].send_as(&id, &mail).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(two.server.mails().len(), 1);
    two.stop().await;
}

#[tokio::test]
async fn a_mail_that_was_refused_for_good_is_not_tried_again() {
    let refuse = |at: At<'_>| if at.name == "RCPT" { Act::Say("550 no such box\r\n") } else { Act::Usual };
    let two = Two::start(Fake::start(refuse).await, &[]).await;
    let (id, mail) = (id(), mail("you@example.com"));
    let first = two.mailers[0].send_as(&id, &mail).await;
    let dialogues = two.server.dialogues();
    let second = two.mailers[0].send_as(&id, &mail).await;
    assert_eq!((first.status, second.status), (422, 422));
    assert_eq!(first.body["data"], second.body["data"]);
    assert_eq!(two.server.dialogues(), dialogues);
    two.stop().await;
}

#[tokio::test]
async fn a_mail_that_was_not_taken_is_sent_by_the_next_try() {
    let first = AtomicBool::new(true);
    let defer = move |at: At<'_>| {
        let refuses = at.name == "RCPT" && first.swap(false, Ordering::Relaxed);
        if refuses { Act::Say("450 later\r\n") } else { Act::Usual }
    };
    let two = Two::start(Fake::start(defer).await, &[]).await;
    let (id, mail) = (id(), mail("you@example.com"));
    let first = two.mailers[0].send_as(&id, &mail).await;
    let second = two.mailers[0].send_as(&id, &mail).await;
    assert_eq!((first.status, second.status), (503, 202), "{first:?} {second:?}");
    assert_eq!(two.server.mails().len(), 1);
    two.stop().await;
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over_with_the_same_message_id_and_counted() {
    let two = Two::start(Fake::start(|_| Act::Usual).await, &[]).await;
    let (id, mail) = (Uuid::now_v7(), mail("you@example.com"));
    // As a mailer leaves it that died after it handed the mail over: the claim of the very same payload.
    assert_eq!(two.mailers[0].send_as(&id.to_string(), &mail).await.status, 202);
    let mut connection = two.database.connect().await;
    let left = async |connection: &mut sqlx::PgConnection, lease: &str| {
        let holder = Uuid::now_v7();
        sqlx::query("UPDATE mails SET state = 'claimed', holder = $2, lease_until = now() + $3::interval WHERE id = $1")
            .bind(id)
            .bind(holder)
            .bind(lease)
            .execute(connection)
            .await
            .unwrap();
    };
    left(&mut connection, "20 seconds").await;
    let answer = two.mailers[1].send_as(&id.to_string(), &mail).await;
    assert_eq!((answer.status, answer.header("retry-after")), (409, "20"));
    assert_eq!(two.server.mails().len(), 1);
    // Of a clock that was set back since: nobody waits for hours.
    left(&mut connection, "2 hours").await;
    assert_eq!(two.mailers[1].send_as(&id.to_string(), &mail).await.status, 202);
    left(&mut connection, "-1 second").await;
    assert_eq!(two.mailers[1].send_as(&id.to_string(), &mail).await.status, 202);
    let mails = two.server.mails();
    let message_ids: Vec<_> =
        mails.iter().map(|mail| mail.lines().find(|line| line.starts_with("Message-ID")).unwrap()).collect();
    assert_eq!(message_ids, [message_ids[0]; 3]);
    let (attempts, doubtful): (i32, bool) =
        sqlx::query_as("SELECT attempts, doubtful FROM mails WHERE id = $1")
            .bind(id)
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!((attempts, doubtful), (3, true));
    connection.close().await.unwrap();
    two.stop().await;
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_nothing_else() {
    let database = TestDatabase::create("DSN").await;
    let server = Fake::start(|_| Act::Usual).await;
    let port = server.address().port();
    let start = || Mailer::start_on(database.dsn(), "127.0.0.1", port, &["--mail-ledger-days=7"]);
    let mailer = start().await;
    mailer.has_its_ledger().await;
    let (old, new) = (id(), id());
    for id in [&old, &new] {
        assert_eq!(mailer.send_as(id, &mail("you@example.com")).await.status, 202);
    }
    mailer.stop().await;
    let mut connection = database.connect().await;
    sqlx::query("UPDATE mails SET updated_at = now() - interval '8 days' WHERE id = $1::uuid")
        .bind(&old)
        .execute(&mut connection)
        .await
        .unwrap();
    let mailer = start().await;
    let connection = tokio::sync::Mutex::new(connection);
    eventually(PATIENCE, "one is forgotten", || async {
        let query = sqlx::query_scalar("SELECT id::text FROM mails");
        let left: Vec<String> = query.fetch_all(&mut *connection.lock().await).await.unwrap();
        if left == [new.clone()] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    mailer.stop().await;
}

#[tokio::test]
async fn a_mail_whose_client_has_left_before_it_was_claimed_is_sent() {
    let database = TestDatabase::create("DSN").await;
    let proxy = FaultProxy::to(&database.server()).await;
    let server = Fake::start(|_| Act::Usual).await;
    let port = server.address().port();
    let mailer = Mailer::start_on(&database.dsn_through(proxy.address()), "127.0.0.1", port, &[]).await;
    mailer.readiness(200).await;
    proxy.stall();
    let (id, mail) = (id(), mail("you@example.com"));
    let asking = mailer.send_as(&id, &mail);
    assert!(tokio::time::timeout(Duration::from_millis(500), asking).await.is_err(), "the ledger is stalled");
    proxy.restore();
    eventually(PATIENCE, "the mail is sent", || async {
        if server.mails().len() == 1 { Ok(()) } else { Err("not yet") }
    })
    .await;
    assert_eq!(mailer.send_as(&id, &mail).await.status, 202);
    assert_eq!(server.mails().len(), 1);
    mailer.stop().await;
}

#[tokio::test]
#[should_panic(expected = "MAIL_LEASE must be at least 5s longer than MAIL_TIMEOUT")]
async fn a_lease_shorter_than_a_sending_stops_the_start() {
    let server = Fake::start(|_| Act::Usual).await;
    Mailer::start(server.address(), &["--mail-lease=12s", "--mail-timeout=10s"]).await;
}

#[tokio::test]
async fn a_lease_is_renewed_as_soon_as_the_ledger_is_there_again() {
    let go_on = Arc::new(Notify::new());
    let hold = Arc::clone(&go_on);
    let server =
        Fake::start(move |at| if at.name == "." { Act::Hold(Arc::clone(&hold)) } else { Act::Usual }).await;
    let database = TestDatabase::create("DSN").await;
    let proxy = FaultProxy::to(&database.server()).await;
    let (port, flags) = (server.address().port(), ["--mail-timeout=300ms", "--mail-lease=5500ms"]);
    let cut_off = Mailer::start_on(&database.dsn_through(proxy.address()), "127.0.0.1", port, &flags).await;
    let other = Mailer::start_on(database.dsn(), "127.0.0.1", port, &flags).await;
    for mailer in [&cut_off, &other] {
        mailer.has_its_ledger().await;
    }
    let (id, mail) = (id(), mail("you@example.com"));
    assert_eq!(cut_off.send_as(&id, &mail).await.status, 504);
    let watching = tokio::sync::Mutex::new(sqlx::PgConnection::connect(database.dsn()).await.unwrap());
    // How many seconds of the lease are left, and how many it has lasted.
    let lease = async || -> (f64, f64) {
        let times = "SELECT extract(epoch FROM lease_until - now())::float8, \
                     extract(epoch FROM now() - created_at)::float8 FROM mails";
        sqlx::query_as(times).fetch_one(&mut *watching.lock().await).await.unwrap()
    };
    let left = async |seconds: f64| {
        eventually(PATIENCE, "the lease runs down", || async {
            let (left, _) = lease().await;
            if left <= seconds { Ok(()) } else { Err(left) }
        })
        .await;
    };
    // Away when the first renewal is due, and there again before the lease is over.
    left(3.9).await;
    proxy.stall();
    left(2.0).await;
    proxy.restore();
    while lease().await.1 < 8.0 {
        let answer = other.send_as(&id, &mail).await;
        assert_eq!(answer.status, 409, "{answer:?}");
    }
    go_on.notify_one();
    eventually(PATIENCE, "the mail is sent", || async {
        let answer = other.send_as(&id, &mail).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(server.mails().len(), 1);
    cut_off.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn many_that_ask_for_one_mail_are_told_together_that_the_ledger_is_away() {
    let (server, database) = (Fake::start(|_| Act::Usual).await, TestDatabase::create("DSN").await);
    let proxy = FaultProxy::to(&database.server()).await;
    let dsn = database.dsn_through(proxy.address());
    let mailer = Mailer::start_on(&dsn, "127.0.0.1", server.address().port(), &[]).await;
    mailer.has_its_ledger().await;
    proxy.stall();
    let (id, mail, started) = (id(), mail("you@example.com"), Instant::now());
    let answers = join_all((0..20).map(|_| mailer.send_as(&id, &mail))).await;
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    // Two statements at most: one may have begun before the others came.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    proxy.restore();
    mailer.stop().await;
}
