//! RabbitMQ is killed and comes back: how much later than the bare crate a publisher is confirmed again, and how fast
//! the relay then takes what was written meanwhile, beside its rate when nothing was wrong.
//!
//! The bare crate connects anew, all the time, and publishes into a queue that is there: the moment at which RabbitMQ
//! works again.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::time::timeout;

use super::publish::{Bare, Chassis, event};
use super::relay::{EVENTS, Stand, end, in_a_database};
use crate::figures::{Goal, Outcome, Row, Unit};
use crate::process::Processes;
use crate::setup::{Setup, setting, until};

/// How long RabbitMQ may take to come back.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long one try of the bare crate may take.
const TRY: Duration = Duration::from_secs(2);

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    setup.runtime.block_on(in_a_database(setup, "reconnect", async |dsn| rounds(setup, dsn).await))
}

async fn rounds(setup: &Setup, dsn: &str) -> anyhow::Result<Outcome> {
    let mut confirmed =
        Row::new("publish again after kill -9", "bare lapin", Unit::Milliseconds, Goal::Plus(1000.0));
    let path = format!("relay of {}k from the outage", EVENTS / 1000);
    let mut backlog = Row::new(&path, "its own peak", Unit::PerSecond, Goal::Times(0.5));
    let stand = Stand::start(setup, dsn).await?;
    for _ in 0..setup.rounds {
        stand.fill().await?;
        let relay = stand.relay()?;
        let peak = stand.rate().await?;
        let publisher = Chassis::start(setup).await?;
        kill_rabbitmq()?;
        let killed = Instant::now();
        stand.fill().await?;
        let (bare, ours, rate) = tokio::join!(
            until("RabbitMQ", PATIENCE, async || bare(setup).await.ok()),
            until("the publisher", PATIENCE, async || {
                let (exchange, event) = (&setup.topology.events, event());
                publisher.publisher.publish(exchange, &event.kind, &event).await.ok()?;
                Some(killed.elapsed())
            }),
            stand.rate(),
        );
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        confirmed.round(milliseconds(bare?.duration_since(killed)), milliseconds(ours?));
        backlog.round(peak, rate?);
        end(relay);
    }
    // The connection of the stand went with the first RabbitMQ.
    Bare::connect(setup).await?.remove(setup).await?;
    Ok(Outcome { rows: vec![confirmed, backlog], ..Outcome::default() })
}

/// When the bare crate's event was confirmed, over a connection of its own.
async fn bare(setup: &Setup) -> anyhow::Result<Instant> {
    timeout(TRY, async {
        let bare = Bare::connect(setup).await?;
        bare.publish(&event()).await?;
        Ok(Instant::now())
    })
    .await?
}

/// Kills the server of the stack, which is started again by its supervisor.
fn kill_rabbitmq() -> anyhow::Result<()> {
    let stack = setting("STACK_DIR")?;
    let pid = Processes::of_stack(stack.as_ref()).pid("rabbitmq").context("RabbitMQ does not run")?;
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    anyhow::ensure!(killed.success(), "RabbitMQ (pid {pid}) could not be killed");
    Ok(())
}
