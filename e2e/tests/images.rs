//! The images of the services: what they need, how they end, and what they say when something is wrong.
//!
//! Only where the system runs in containers: `make test-compose` runs it.

#![cfg(feature = "compose")]

use std::time::Duration;

use e2e::containers::{self, Container, OwnContainer, image, inspect, network, run};
use testkit::eventually;

const SERVICES: [&str; 6] = ["auth", "broker", "frontend", "listener", "logger", "mailer"];

#[tokio::test]
async fn an_image_is_small_and_says_what_it_is() {
    let size = async |image: &str| inspect(image, "{{.Size}}").await.parse::<u64>().unwrap();
    let base = size("debian:bookworm-slim").await;
    for service in SERVICES {
        let image = image(service);
        let added = size(&image).await - base;
        assert!(added < 60_000_000, "{service}: {added} bytes above its base");
        assert_eq!(inspect(&image, "{{.Config.User}}").await, "10001:10001", "{service}");
        assert_eq!(
            inspect(&image, "{{json .Config.Healthcheck.Test}}").await,
            r#"["CMD","/usr/local/bin/service","health"]"#
        );
        let title = inspect(&image, r#"{{index .Config.Labels "org.opencontainers.image.title"}}"#).await;
        assert_eq!(title, format!("switchboard {service}"));
    }
}

#[tokio::test]
async fn it_needs_no_rights_and_no_disk_to_write_to_and_ends_well() {
    let options = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=54321:54321"];
    let console = run("frontend", &options).await;
    console.healthy().await;
    assert_eq!(console.stop().await, "0", "{}", console.logs().await);
    let log = console.logs().await;
    assert!(log.contains("SIGTERM") && log.trim_end().lines().last().unwrap().contains("stopped"), "{log}");
}

#[tokio::test]
async fn a_missing_secret_is_named_in_the_last_line() {
    for (service, variable, others) in [
        ("auth", "DSN", &[][..]),
        ("auth", "RABBITMQ_URL", &["--env=DSN=postgres://u:p@postgres/users"]),
        ("broker", "RABBITMQ_URL", &[]),
        ("listener", "RABBITMQ_URL", &[]),
        ("logger", "MONGO_URL", &[]),
        ("mailer", "DSN", &[]),
        ("mailer", "RABBITMQ_URL", &["--env=DSN=postgres://u:p@postgres/mailer"]),
    ] {
        let container = run(service, others).await;
        assert_eq!(container.exit_code().await, "2");
        let log = container.logs().await;
        assert!(
            log.starts_with(&format!("{service}: {variable} is not set; for example {variable}=")),
            "{log}"
        );
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let broker = containers::of("broker").await.remove(0);
    let container =
        run("frontend", &[&format!("--network=container:{}", broker.id()), "--env=PORT=8080"]).await;
    assert_eq!(container.exit_code().await, "1");
    let log = container.logs().await;
    assert!(log.contains("cannot listen on 0.0.0.0:8080 (HOST, PORT): Address already in use"), "{log}");
}

/// Starts the image of a service in the network of the system, with these settings.
async fn run_beside(service: &str, settings: &[&str]) -> OwnContainer {
    let network = format!("--network={}", network());
    let settings: Vec<_> = settings.iter().map(|setting| format!("--env={setting}")).collect();
    let options: Vec<_> = [&network].into_iter().chain(&settings).map(String::as_str).collect();
    run(service, &options).await
}

/// Waits until the log of a service that runs on has a line with all of this.
async fn says(container: &Container, parts: &[&str]) {
    eventually(Duration::from_secs(30), &format!("a line with {parts:?}"), || async {
        let log = container.logs().await;
        if log.lines().any(|line| parts.iter().all(|part| line.contains(part))) { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(inspect(container.id(), "{{.State.Status}}").await, "running");
}

/// Servers that are nowhere.
const NO_USERS: &str = "DSN=postgres://u:p@nowhere.invalid/users";
const NO_LEDGER: &str = "DSN=postgres://u:p@nowhere.invalid/mailer";
const NO_RABBITMQ: &str = "RABBITMQ_URL=amqp://u:p@nowhere.invalid/%2f";
/// That of the system, with a wrong password.
const WRONG_RABBITMQ: &str = "RABBITMQ_URL=amqp://switchboard:wrong@rabbitmq/%2f";

#[tokio::test]
async fn a_wrong_password_is_said_while_the_service_waits() {
    let postgres = ["PostgreSQL", "password authentication failed"];
    let rabbitmq = ["RabbitMQ", "ACCESS_REFUSED"];
    for (service, settings, parts) in [
        ("auth", &["DSN=postgres://switchboard:wrong@postgres/users", NO_RABBITMQ][..], postgres),
        ("auth", &[NO_USERS, WRONG_RABBITMQ], rabbitmq),
        ("mailer", &["DSN=postgres://switchboard:wrong@postgres/mailer", NO_RABBITMQ], postgres),
        ("mailer", &[NO_LEDGER, WRONG_RABBITMQ], rabbitmq),
        (
            "logger",
            &["MONGO_URL=mongodb://switchboard:wrong@mongo/logs?replicaSet=rs0&authSource=admin"],
            ["MongoDB", "the log-in was refused"],
        ),
        ("listener", &[WRONG_RABBITMQ], rabbitmq),
        ("broker", &[WRONG_RABBITMQ], rabbitmq),
    ] {
        let container = run_beside(service, settings).await;
        says(&container, &parts).await;
        assert!(!container.logs().await.contains("wrong@"), "the password is in the log of {service}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_while_the_service_waits() {
    for (service, settings, names) in [
        ("auth", &[NO_USERS, NO_RABBITMQ][..], &["PostgreSQL", "RabbitMQ"][..]),
        ("logger", &["MONGO_URL=mongodb://u:p@nowhere.invalid/logs?replicaSet=rs0"], &["MongoDB"]),
        ("listener", &[NO_RABBITMQ], &["RabbitMQ"]),
        ("mailer", &[NO_LEDGER, NO_RABBITMQ], &["PostgreSQL", "RabbitMQ"]),
    ] {
        let container = run_beside(service, settings).await;
        for name in names {
            says(&container, &[name]).await;
        }
        assert_eq!(
            container.stop().await,
            "0",
            "{service} can't be stopped while it waits: {}",
            container.logs().await
        );
    }
}
