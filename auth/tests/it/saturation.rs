//! More log-ins than can be hashed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use crate::service::{ADMIN, System};

/// The test's one thread serves every request: if anything were hashed on it, nothing else would be answered.
#[tokio::test]
async fn other_requests_are_served_while_every_hashing_thread_is_busy() {
    const LOG_INS: usize = 30;
    let system = System::start(&["--hash-threads", "1", "--hash-queue", "64"]).await;
    let done = Arc::new(AtomicUsize::new(0));
    let log_ins = join_all((0..LOG_INS).map(|_| async {
        let status = system.auth.log_in(ADMIN).await.status;
        done.fetch_add(1, Ordering::Relaxed);
        status
    }));
    let others = async {
        for _ in 0..20 {
            assert_eq!(system.auth.get("/livez").await.status, 200);
            assert_eq!(system.auth.get("/readyz").await.status, 200);
        }
        done.load(Ordering::Relaxed)
    };
    let (statuses, done_meanwhile) = tokio::join!(log_ins, others);
    assert_eq!(statuses, [202; LOG_INS]);
    assert!(done_meanwhile < LOG_INS, "the others waited for the log-ins");
}

#[tokio::test]
async fn beyond_the_queue_a_log_in_is_told_to_come_back_and_the_others_are_not_harmed() {
    let system = System::start(&["--hash-threads", "1", "--hash-queue", "2"]).await;
    let answers = join_all((0..12).map(|_| system.auth.log_in(ADMIN))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert!(taken.len() >= 3, "{answers:?}");
    assert!(!refused.is_empty(), "{answers:?}");
    for answer in refused {
        let message = "too many log-ins are under way, try again shortly";
        assert_eq!((answer.status, answer.message()), (503, message));
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(system.auth.log_in(ADMIN).await.status, 202);
}
