//! The `mail` action, beside a raw pooled SMTP loop. Both send to `smtp-sink`, which throws everything away.
//!
//! The floor sends the very bytes that the mailer makes of the payload: they are taken once, by a mailer of the
//! bench's own that delivers into [`capture`].

mod capture;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lettre::address::Envelope;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::ClientId;
use serde_json::json;
use tokio::net::TcpStream;

use crate::figures::{Cost, Goal, Orientation, Outcome, Row, Unit, median};
use crate::load::{self, Load};
use crate::setup::Setup;

const CLIENTS: usize = 16;
const DURATION: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(300);
const FROM: &str = "bench@example.com";
const TO: &str = "somebody@example.com";

/// The payload of the action.
fn payload() -> serde_json::Value {
    json!({"from": FROM, "to": TO, "subject": "A mail of the benchmark",
        "message": "Hello,\n\nthis is a mail of a few lines, as services send them all day.\n\nGoodbye"})
}

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = format!("mail, {CLIENTS} clients");
    let mut row = Row::new(&path, "raw pooled SMTP loop", Unit::PerSecond, Goal::Times(0.8));
    let mut cost = Cost::of(&path);
    let mut outcome = Outcome::default();
    let message: Arc<[u8]> = setup.runtime.block_on(capture::mail(setup, &payload()))?.into();
    outcome.notes.push(format!("{path}: {} bytes each", message.len()));
    let body = json!({"action": "mail", "mail": payload()}).to_string();
    let request = load::post("/handle", "", &body);
    let ours = Load { address: setup.broker, clients: CLIENTS, request, expected: 202, duration: DURATION };
    for _ in 0..setup.rounds {
        let floor = setup.runtime.block_on(smtp_loop(setup, &message))?;
        let ours = ours.run(&setup.processes)?;
        outcome.notes.extend(ours.complaint(&path));
        cost.add(f64::from(ours.count), &ours.cpu);
        row.round(floor, ours.rate);
    }
    let rate = median(&row.ours);
    outcome.orientation.push(Orientation {
        what: "mails/s at 16 clients",
        theirs: 1630.0,
        times: Some(2.0),
        ours: rate,
    });
    outcome.rows.push(row);
    outcome.costs.push(cost);
    Ok(outcome)
}

/// Tasks that each send one mail after another over a connection that they keep; mails a second.
async fn smtp_loop(setup: &Setup, message: &Arc<[u8]>) -> anyhow::Result<f64> {
    let envelope = Envelope::new(Some(FROM.parse()?), vec![TO.parse()?])?;
    let count = Arc::new(AtomicU32::new(0));
    let until = Instant::now() + WARM_UP + DURATION;
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let stream = TcpStream::connect(setup.sink).await?;
        stream.set_nodelay(true)?;
        let name = ClientId::Domain("localhost".to_owned());
        let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &name).await?;
        let (envelope, message, count) = (envelope.clone(), message.clone(), count.clone());
        tasks.push(tokio::spawn(async move {
            while Instant::now() < until {
                connection.send(&envelope, &message).await.expect("the sink takes a mail");
                count.fetch_add(1, Ordering::Relaxed);
            }
            connection.quit().await.expect("the sink says goodbye");
        }));
    }
    tokio::time::sleep(WARM_UP).await;
    let (before, began) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(DURATION).await;
    let rate = f64::from(count.load(Ordering::Relaxed) - before) / began.elapsed().as_secs_f64();
    for task in tasks {
        task.await?;
    }
    Ok(rate)
}
