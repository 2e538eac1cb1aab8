//! What is done to the system: somebody is killed, paused, or cut off.

use std::process::Stdio;
use std::time::Duration;

use testkit::proxy::FaultProxy;
use tokio::process::Command;
use tokio::time::sleep;

use crate::{Chaos, PROCESSES};

const SERVERS: [&str; 3] = ["postgres", "rabbitmq", "mongodb"];

impl Chaos {
    /// The process id of one of them, or of a server.
    fn pid(&self, name: &str) -> Option<u32> {
        if SERVERS.contains(&name) {
            return self.servers.pid(name);
        }
        self.pids.lock().unwrap().get(name).copied()
    }

    async fn signal(&self, name: &str, signal: &str) {
        if let Some(pid) = self.pid(name) {
            // It may have ended since.
            let _ =
                Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status().await;
        }
    }

    /// Does something to somebody; gives what.
    pub(crate) async fn fault(&self) -> String {
        // Sometimes longer than the mailer waits for the mail server.
        let longest = if fastrand::u8(0..4) == 0 { 6000 } else { 2500 };
        let long = Duration::from_millis(fastrand::u64(500..longest));
        match fastrand::u8(0..10) {
            0..=4 => {
                let name = PROCESSES[fastrand::usize(0..PROCESSES.len())];
                self.signal(name, "-KILL").await;
                format!("kill {name}")
            }
            5..=6 => {
                let name = SERVERS[fastrand::usize(0..SERVERS.len())];
                self.signal(name, "-KILL").await;
                format!("kill {name}")
            }
            7 => {
                let every: Vec<&str> = PROCESSES.into_iter().chain(SERVERS).collect();
                let name = every[fastrand::usize(0..every.len())];
                self.signal(name, "-STOP").await;
                sleep(long).await;
                self.signal(name, "-CONT").await;
                format!("pause {name} for {long:?}")
            }
            what => {
                let (name, hop) = self.hop();
                let (how, fault): (_, fn(&FaultProxy)) =
                    if what == 8 { ("cut", FaultProxy::cut) } else { ("stall", FaultProxy::stall) };
                fault(hop);
                sleep(long).await;
                hop.restore();
                format!("{how} {name} for {long:?}")
            }
        }
    }

    fn hop(&self) -> (&str, &FaultProxy) {
        let mut names: Vec<_> = self.system.hops.iter().collect();
        names.sort_by_key(|(name, _)| name.as_str());
        let (name, hop) = names[fastrand::usize(0..names.len())];
        (name, hop)
    }
}
