//! The containers of the system, where it runs in some, and containers of a test's own.
//!
//! `COMPOSE_PROJECT_NAME` says which are the system's, `SWITCHBOARD_VERSION` which images.

use std::time::Duration;

use testkit::{eventually, setting};
use tokio::process::Command;

/// One container.
#[derive(Clone, Debug)]
pub struct Container {
    id: String,
}

/// A container that is removed when this is dropped.
#[derive(Debug)]
pub struct OwnContainer(Container);

/// The image of a service.
pub fn image(service: &str) -> String {
    format!("switchboard/{service}:{}", setting("SWITCHBOARD_VERSION"))
}

/// The network of the system.
pub fn network() -> String {
    format!("{}_default", setting("COMPOSE_PROJECT_NAME"))
}

/// The containers of a service that run.
pub async fn of(service: &str) -> Vec<Container> {
    let project = format!("label=com.docker.compose.project={}", setting("COMPOSE_PROJECT_NAME"));
    let service = format!("label=com.docker.compose.service={service}");
    let ids = docker(&["ps", "--quiet", "--filter", &project, "--filter", &service]).await;
    ids.lines().map(|id| Container { id: id.to_owned() }).collect()
}

/// Starts the image of a service, with these options of `docker run`.
pub async fn run(service: &str, options: &[&str]) -> OwnContainer {
    let image = image(service);
    let id = docker(&[&["run", "--detach"], options, &[&image]].concat()).await;
    OwnContainer(Container { id: id.trim().to_owned() })
}

/// What `docker inspect` says of something, by a Go template.
pub async fn inspect(what: &str, template: &str) -> String {
    docker(&["inspect", "--format", template, what]).await.trim().to_owned()
}

impl Container {
    /// What the engine calls it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends its process at once, as a crash does. It stays down.
    pub async fn kill(&self) {
        docker(&["kill", &self.id]).await;
    }

    /// Starts it again, and waits until it is healthy.
    pub async fn start(&self) {
        docker(&["start", &self.id]).await;
        self.healthy().await;
    }

    /// Waits until its health check says that it is ready.
    pub async fn healthy(&self) {
        eventually(Duration::from_mins(1), "the container is healthy", || async {
            let health = inspect(&self.id, "{{.State.Status}} {{.State.Health.Status}}").await;
            if health == "running healthy" { Ok(()) } else { Err(health) }
        })
        .await;
    }

    /// Stops it as the engine does, with SIGTERM first; its exit code.
    pub async fn stop(&self) -> String {
        docker(&["stop", "--time", "30", &self.id]).await;
        inspect(&self.id, "{{.State.ExitCode}}").await
    }

    /// Waits for its end; its exit code.
    pub async fn exit_code(&self) -> String {
        docker(&["wait", &self.id]).await.trim().to_owned()
    }

    /// What it has logged.
    pub async fn logs(&self) -> String {
        let output =
            Command::new("docker").args(["logs", &self.id]).output().await.expect("docker can be run");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl std::ops::Deref for OwnContainer {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.0
    }
}

impl Drop for OwnContainer {
    fn drop(&mut self) {
        let removed =
            std::process::Command::new("docker").args(["rm", "--force", "--volumes", &self.0.id]).output();
        drop(removed);
    }
}

async fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().await.expect("docker can be run");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
