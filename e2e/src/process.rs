//! A service's own binary, started by a test with settings of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use testkit::eventually;
use testkit::http::Client;
use tokio::process::{Child, Command};

/// A running process; it is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    /// Where it serves HTTP.
    pub url: String,
    child: Child,
}

/// A port that is free now.
pub fn free_port() -> u16 {
    held_port().0
}

/// A port that nobody else gets until what holds it is dropped.
pub fn held_port() -> (u16, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    (listener.local_addr().expect("a bound listener has an address").port(), listener)
}

/// The binary of a service, beside the tests' own.
fn binary(service: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its binary");
    let binary = test.ancestors().nth(2).expect("target/<profile>/deps").join(service);
    assert!(binary.exists(), "{} is missing: run `cargo build --bins`, or `make test`", binary.display());
    binary
}

/// A command that runs a service with these settings and no others, its output taken.
pub fn command(service: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary(service));
    command.env_clear().envs(settings.iter().copied()).kill_on_drop(true);
    command
}

impl Process {
    /// Starts a service and waits until it is live.
    pub async fn start(service: &str, settings: &[(&str, &str)]) -> Self {
        let port = free_port().to_string();
        let settings = [settings, &[("PORT", port.as_str())]].concat();
        let child = command(service, &settings).spawn().expect("the binary can be run");
        let url = format!("http://127.0.0.1:{port}");
        eventually(Duration::from_secs(10), service, || async {
            Client::default().get(&format!("{url}/livez")).await
        })
        .await;
        Self { url, child }
    }

    /// Sends SIGTERM and waits for the end; whether it ended well.
    pub async fn terminate(mut self) -> bool {
        terminate(&mut self.child).await
    }
}

/// Sends SIGTERM to a process of our own and waits for the end; whether it ended well.
pub async fn terminate(child: &mut Child) -> bool {
    let pid = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill can be run");
    assert!(sent.success(), "SIGTERM could not be sent to {pid}");
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
    ended.expect("it ends within its drain timeout").expect("it can be waited for").success()
}
