//! The `auth` action, beside bare argon2 on all cores.
//!
//! Two figures for the floor: what all cores give together, where they share caches and memory, and cores by the
//! time of one hash while nothing else runs. The goal is against the first, which no service can pass.

use std::time::{Duration, Instant};

use argon2::Argon2;

use crate::figures::{Cost, Goal, Orientation, Outcome, Row, Unit, median};
use crate::load::{self, Load};
use crate::setup::Setup;

const CLIENTS: usize = 16;
const DURATION: Duration = Duration::from_secs(3);
const FLOOR_DURATION: Duration = Duration::from_millis(1500);

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = format!("auth, {CLIENTS} clients");
    let cores = std::thread::available_parallelism()?.get();
    let all = format!("{cores} cores hashing at once");
    let mut together = Row::new(&path, &all, Unit::PerSecond, Goal::Times(0.9));
    let mut alone = Row::new(&path, &format!("{cores} x one core alone"), Unit::PerSecond, Goal::None);
    let mut cost = Cost::of(&path);
    let mut outcome = Outcome::default();
    let body = r#"{"action":"auth","auth":{"email":"admin@example.com","password":"verysecret"}}"#;
    let request = load::post("/handle", "", body);
    let ours = Load { address: setup.broker, clients: CLIENTS, request, expected: 202, duration: DURATION };
    for _ in 0..setup.rounds {
        let (one, every) = (hashes(1), hashes(cores));
        let ours = ours.run(&setup.processes)?;
        outcome.notes.extend(ours.complaint(&path));
        cost.add(f64::from(ours.count), &ours.cpu);
        #[expect(clippy::cast_precision_loss, reason = "machines have few cores")]
        alone.round(one * cores as f64, ours.rate);
        together.round(every, ours.rate);
    }
    let rate = median(&together.ours);
    outcome.orientation.push(Orientation {
        what: "log-ins/s at 16 clients",
        theirs: 8.0,
        times: Some(12.0),
        ours: rate,
    });
    outcome.rows.extend([together, alone]);
    outcome.costs.push(cost);
    Ok(outcome)
}

/// Hashes a second of so many threads, each with the default parameters of the crate, which are those of the auth
/// service: argon2id, m = 19456 KiB, t = 2, p = 1.
fn hashes(threads: usize) -> f64 {
    let counting = || {
        let argon2 = Argon2::default();
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < FLOOR_DURATION {
            let mut out = [0; 32];
            argon2.hash_password_into(b"verysecret", b"sixteen bytes of", &mut out).expect("a hash");
            count += 1;
        }
        f64::from(count) / began.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(counting)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a hashing thread")).sum()
    })
}
