//! Servers that a test may kill, block or step down: a stack beside the one of the other tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::setting;

/// The stack, with its own PostgreSQL, RabbitMQ and MongoDB, on ports of its own. Dropped, it is brought down. From its
/// start on, this process' settings are its own.
///
/// The ports are below those that outgoing connections take (from 32768 on Linux).
///
/// One process at a time may have it: `.config/nextest.toml` sees to that. Where another checkout on this machine has one
/// too, `CHAOS_PORT_OFFSET` moves the ports.
#[derive(Debug)]
pub struct Servers {
    root: PathBuf,
}

impl Servers {
    /// Starts them, unless they run, and waits until they are ready.
    ///
    /// # Panics
    ///
    /// When they do not start.
    #[expect(clippy::expect_used, reason = "a test that can't go on fails with the reason")]
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is the parent");
        let servers = Self { root: root.to_owned() };
        assert!(servers.stack("servers"), "dev/stack servers: the lines above say why");
        testkit::use_stack(&servers.folder().join("env"));
        servers
    }

    fn folder(&self) -> PathBuf {
        self.root.join(".stack-chaos")
    }

    /// Runs a command of the stack; whether it succeeded.
    fn stack(&self, what: &str) -> bool {
        let offset = std::env::var("CHAOS_PORT_OFFSET").unwrap_or_else(|_| "4000".to_owned());
        // Nothing of the stack that the other tests run on.
        let kept =
            ["PATH", "HOME", "USER"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let done = Command::new(self.root.join("dev/stack"))
            .arg(what)
            .env_clear()
            .envs(kept)
            .env("STACK_DIR", self.folder())
            .env("STACK_PORT_OFFSET", offset)
            .env("STACK_DOTENV", "/dev/null")
            .status();
        done.is_ok_and(|status| status.success())
    }

    /// The process id of one of them: `postgres`, `rabbitmq`, `mongodb`.
    pub fn pid(&self, name: &str) -> Option<u32> {
        let pid = self.folder().join("service").join(name).join("supervise/pid");
        std::fs::read_to_string(pid).ok()?.trim().parse().ok()
    }

    /// Has RabbitMQ do something; gives what it said.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[expect(clippy::expect_used, reason = "a test that can't go on fails with the reason")]
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        // As `dev/run/rabbitmq` starts the node: its own name, port mapper and cookie.
        let done = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
            .args(arguments)
            .env("HOME", self.folder().join("rabbitmq"))
            .env("ERL_EPMD_PORT", setting("EPMD_PORT"))
            .env("RABBITMQ_NODENAME", "switchboard@localhost")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .output()
            .expect("rabbitmqctl can be run");
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {said}");
        said
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if !self.stack("down") {
            eprintln!("the servers in {} could not be stopped", self.folder().display());
        }
    }
}
