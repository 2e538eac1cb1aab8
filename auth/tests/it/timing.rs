//! The time of an answer does not tell which addresses are registered.

use std::time::{Duration, Instant};

use auth::users;

use crate::service::{ADMIN, System};

/// How many log-ins of each kind are timed.
const ROUNDS: usize = 15;

#[tokio::test]
async fn refusals_take_the_same_time() {
    let system = System::start(&["--hash-threads", "1"]).await;
    let mut connection = system.database.connect().await;
    let admin = users::find_by_email(&mut connection, ADMIN.0).await.unwrap().unwrap();
    sqlx::query("INSERT INTO users (email, first_name, last_name, password_hash, active) VALUES ($1, '', '', $2, false)")
        .bind("gone@example.com")
        .bind(admin.password_hash)
        .execute(&mut connection)
        .await
        .unwrap();
    let kinds = [
        ("a wrong password", (ADMIN.0, "wrong")),
        ("an unknown address", ("nobody@example.com", ADMIN.1)),
        ("an inactive account", ("gone@example.com", ADMIN.1)),
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    // In turns, so that whatever else the machine does is spread over all of them.
    for _ in 0..ROUNDS {
        for (times, (_, credentials)) in times.iter_mut().zip(kinds) {
            let started = Instant::now();
            assert_eq!(system.auth.log_in(credentials).await.status, 401);
            times.push(started.elapsed());
        }
    }
    let medians: Vec<_> = times
        .iter_mut()
        .map(|times| {
            times.sort();
            times[ROUNDS / 2]
        })
        .collect();
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    // A refusal that skipped the hash would take a twentieth.
    assert!(*most < *least * 2, "{:?}", kinds.iter().map(|(kind, _)| kind).zip(&medians).collect::<Vec<_>>());
}
