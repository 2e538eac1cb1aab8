//! What every path works with: the stack that is measured, where its servers are, and a runtime for the floors.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use contracts::topology::{RETRY_DELAYS, Topology};
use futures_util::FutureExt as _;
use tokio::runtime::Runtime;

use crate::process::Processes;

/// The stack under measurement.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The services and servers.
    pub(crate) processes: Processes,
    /// The broker's address.
    pub(crate) broker: SocketAddr,
    /// The URL of MongoDB.
    pub(crate) mongo_url: String,
    /// The URL of RabbitMQ.
    pub(crate) rabbitmq_url: String,
    /// The database of the mailer's ledger.
    pub(crate) mailer_dsn: String,
    /// Where `smtp-sink` listens; the mailer sends there.
    pub(crate) sink: SocketAddr,
    /// Where the binaries of the services are.
    pub(crate) binaries: PathBuf,
    /// Names on the message server that are the bench's own.
    pub(crate) topology: Topology,
    /// What all those names begin with.
    pub(crate) namespace: String,
    /// How often floor and ours take turns.
    pub(crate) rounds: usize,
    /// Whether the large tables and queues are measured too.
    pub(crate) large: bool,
    /// Where the floors run.
    pub(crate) runtime: Runtime,
}

impl Setup {
    /// Reads the settings of the stack from the environment.
    pub(crate) fn from_environment(rounds: usize, large: bool) -> anyhow::Result<Self> {
        let stack = PathBuf::from(setting("STACK_DIR")?);
        let processes = Processes::of_stack(&stack);
        if processes.pid("broker").is_none() {
            bail!("no stack runs in {}: use `make bench`, which starts one", stack.display());
        }
        let namespace = format!("bench-{}-", std::process::id());
        Ok(Self {
            processes,
            broker: port("BROKER_PORT")?,
            mongo_url: setting("MONGO_URL")?,
            rabbitmq_url: setting("RABBITMQ_URL")?,
            mailer_dsn: setting("MAILER_DSN")?,
            sink: port("SINK_PORT")?,
            binaries: setting("STACK_BIN")?.into(),
            topology: Topology::within(&namespace).with_delays(&namespace, &RETRY_DELAYS),
            namespace,
            rounds,
            large,
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        })
    }
}

/// A setting of the stack.
pub(crate) fn setting(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: use `make bench`, which sets it"))
}

fn port(name: &str) -> anyhow::Result<SocketAddr> {
    let port = setting(name)?.parse().with_context(|| format!("{name} is not a port"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// A port that is free now, and that nobody else is about to take.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A process that the bench has started, and ends.
#[derive(Debug)]
pub(crate) struct Started(Child);

impl Started {
    /// Starts it, with what it prints going nowhere but where `command` says.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().display().to_string();
        Ok(Self(command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {program}"))?))
    }

    /// The process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Started {
    /// Asks it to end, and makes it end where it does not.
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.pid().to_string()).status();
        let until = Instant::now() + Duration::from_secs(if asked.is_ok() { 5 } else { 0 });
        while Instant::now() < until {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended in the meantime.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks every few milliseconds until `look` gives something, for `patience` at most.
pub(crate) async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let waited = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, waited)
        .map(|result| result.with_context(|| format!("{what} within {patience:?}")))
        .await
}
