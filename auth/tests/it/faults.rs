//! PostgreSQL goes away, stops answering, and comes back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testkit::postgres::TestDatabase;
use testkit::proxy::FaultProxy;

use crate::service::{ADMIN, Auth};

/// What a request may take while PostgreSQL is away, on a busy machine: the service's own limit is 2 s.
const PATIENCE: Duration = Duration::from_secs(4);

/// A replica whose PostgreSQL is behind a proxy. It stops before its database goes.
struct Behind {
    auth: Auth,
    proxy: FaultProxy,
    _database: TestDatabase,
}

impl Behind {
    /// Starts after `fault` has happened.
    async fn start(fault: impl FnOnce(&FaultProxy)) -> Self {
        let database = TestDatabase::create("DSN").await;
        let proxy = FaultProxy::to(&database.server()).await;
        fault(&proxy);
        let dsn = database.dsn_through(proxy.address());
        let auth = Auth::start(&dsn, &["--environment", "development"]).await;
        Self { auth, proxy, _database: database }
    }

    /// Log-ins are refused with the name of what is away, in time; the process itself is well.
    async fn is_unavailable(&self) {
        for _ in 0..2 {
            let started = Instant::now();
            let answers = join_all((0..8).map(|_| self.auth.log_in(ADMIN))).await;
            assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
            for answer in answers {
                let message = "PostgreSQL is not available, try again shortly";
                assert_eq!((answer.status, answer.message()), (503, message));
                assert_eq!(answer.header("retry-after"), "1");
            }
        }
        let ready = self.auth.get("/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready.message().starts_with("not ready: PostgreSQL: "), "{}", ready.message());
        assert_eq!(self.auth.get("/livez").await.status, 200);
    }

    /// Everything works again, with no restart.
    async fn heals(self) {
        self.auth.admin_logs_in().await;
        assert_eq!(self.auth.log_in_together(8).await, [202; 8]);
        assert_eq!(self.auth.get("/readyz").await.status, 200);
        self.auth.running.stop().await;
    }
}

#[tokio::test]
async fn a_postgres_that_goes_away_is_named_and_found_again() {
    let behind = Behind::start(|_| {}).await;
    behind.auth.admin_logs_in().await;
    behind.proxy.cut();
    behind.is_unavailable().await;
    behind.proxy.restore();
    behind.heals().await;
}

#[tokio::test]
async fn a_postgres_that_stops_answering_holds_no_request_up() {
    let behind = Behind::start(|_| {}).await;
    behind.auth.admin_logs_in().await;
    behind.proxy.stall();
    behind.is_unavailable().await;
    behind.proxy.restore();
    behind.heals().await;
}

#[tokio::test]
async fn a_postgres_that_comes_after_the_service_is_waited_for() {
    for fault in [FaultProxy::cut, FaultProxy::stall] {
        let behind = Behind::start(fault).await;
        behind.is_unavailable().await;
        behind.proxy.restore();
        behind.heals().await;
    }
}

#[tokio::test]
async fn connections_that_died_unused_are_not_handed_out() {
    let behind = Behind::start(|_| {}).await;
    behind.auth.admin_logs_in().await;
    // The pool fills up.
    assert_eq!(behind.auth.log_in_together(16).await, [202; 16]);
    behind.proxy.cut();
    assert_eq!(behind.auth.get("/readyz").await.status, 503);
    behind.proxy.restore();
    assert_eq!(behind.auth.log_in_together(8).await, [202; 8]);
}

#[tokio::test]
async fn a_service_that_never_saw_its_postgres_stops_all_the_same() {
    let behind = Behind::start(FaultProxy::stall).await;
    assert_eq!(behind.auth.get("/livez").await.status, 200);
    behind.auth.running.stop().await;
}
