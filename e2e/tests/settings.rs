//! A wrong setting stops the start with one line that names the variable.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails with the reason")]

use std::process::Output;
use std::time::Duration;

use e2e::process::{command, free_port};

/// What a service that is to end at once leaves behind.
async fn run(service: &str, settings: &[(&str, &str)]) -> Output {
    let ended = tokio::time::timeout(Duration::from_secs(20), command(service, settings).output()).await;
    ended.unwrap_or_else(|_| panic!("{service} goes on with {settings:?}")).unwrap()
}

async fn refused(service: &str, settings: &[(&str, &str)]) -> String {
    let output = run(service, settings).await;
    assert_eq!(output.status.code(), Some(2), "{service} {settings:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn a_wrong_setting_is_named_in_one_line() {
    for (service, settings, expected) in [
        ("broker", &[("RABBITMQ_URL", "amqp://x"), ("PORT", "http")][..], "broker: PORT `http`: "),
        ("broker", &[("RABBITMQ_URL", "amqp://x"), ("PORT", "0")], "broker: PORT `0`: "),
        ("broker", &[], "broker: RABBITMQ_URL is not set; for example RABBITMQ_URL=amqp://"),
        (
            "broker",
            &[("RABBITMQ_URL", "amqp://x"), ("CORS_ALLOWED_ORIGINS", "localhost:8081")],
            "broker: CORS_ALLOWED_ORIGINS `localhost:8081`: must begin with http",
        ),
        (
            "broker",
            &[("RABBITMQ_URL", "amqp://x"), ("LOGGER_RPC_ADDR", "logger")],
            "broker: LOGGER_RPC_ADDR `logger`: must be a host and a port",
        ),
        (
            "broker",
            &[("RABBITMQ_URL", "amqp://x"), ("AUTH_SERVICE_URL", "auth:x:y")],
            "broker: AUTH_SERVICE_URL `auth:x:y`: ",
        ),
        ("broker", &[("RABBITMQ_URL", "amqp://x"), ("HOST", "localhost")], "broker: HOST `localhost`: "),
        (
            "broker",
            &[("RABBITMQ_URL", "amqp://x"), ("DRAIN_TIMEOUT", "soon")],
            "broker: DRAIN_TIMEOUT `soon`: ",
        ),
        ("broker", &[("RABBITMQ_URL", "amqp://x"), ("LOG_LEVEL", "=loud")], "broker: LOG_LEVEL `=loud`: "),
        ("auth", &[], "auth: DSN is not set; for example DSN=postgres://"),
        ("auth", &[("DSN_FILE", "/nowhere")], "auth: DSN_FILE: cannot read /nowhere: "),
        (
            "auth",
            &[("DSN", "postgres://x/users")],
            "auth: RABBITMQ_URL is not set; for example RABBITMQ_URL=amqp://",
        ),
        ("logger", &[], "logger: MONGO_URL is not set; for example MONGO_URL=mongodb://"),
        (
            "logger",
            &[("MONGO_URL", "mongodb://x"), ("LOG_RETENTION_DAYS", "-1")],
            "logger: LOG_RETENTION_DAYS `-1`: ",
        ),
        (
            "mailer",
            &[("MAIL_ENCRYPTION", "ssl")],
            "mailer: MAIL_ENCRYPTION `ssl`: must be one of none, starttls, tls",
        ),
        ("mailer", &[], "mailer: DSN is not set; for example DSN=postgres://"),
        (
            "mailer",
            &[("DSN", "postgres://x/mailer")],
            "mailer: RABBITMQ_URL is not set; for example RABBITMQ_URL=amqp://",
        ),
        ("mailer", &[("FROM_ADDRESS", "nobody")], "mailer: FROM_ADDRESS `nobody`: "),
        ("listener", &[], "listener: RABBITMQ_URL is not set; for example RABBITMQ_URL=amqp://"),
        (
            "listener",
            &[("RABBITMQ_URL", "amqp://x"), ("MAIL_SERVICE_URL", "mailer:8083")],
            "listener: MAIL_SERVICE_URL `mailer:8083`: must begin with http",
        ),
        (
            "listener",
            &[("RABBITMQ_URL", "amqp://x"), ("LISTENER_RETRY_DELAYS", "1s,25h")],
            "listener: LISTENER_RETRY_DELAYS `25h`: must be 24h at most",
        ),
        (
            "listener",
            &[("RABBITMQ_URL", "amqp://x"), ("LISTENER_RETRY_DELAYS", "0s")],
            "listener: LISTENER_RETRY_DELAYS `0s`: must be 1ms at least",
        ),
        (
            "listener",
            &[("RABBITMQ_URL", "amqp://x"), ("LISTENER_MAILS", "0")],
            "listener: LISTENER_MAILS `0`: ",
        ),
    ] {
        let line = refused(service, settings).await;
        assert!(line.starts_with(expected), "{line}");
    }
}

#[tokio::test]
async fn no_secret_is_shown() {
    // Some are looked at only once the service listens.
    let port = free_port().to_string();
    for (service, wrong, others) in [
        ("auth", "DSN", &[][..]),
        ("auth", "RABBITMQ_URL", &[("DSN", "postgres://x/users")]),
        ("logger", "MONGO_URL", &[]),
        ("mailer", "DSN", &[]),
        ("mailer", "RABBITMQ_URL", &[("DSN", "postgres://x/mailer")]),
        ("listener", "RABBITMQ_URL", &[]),
    ] {
        let settings = [others, &[("PORT", port.as_str()), (wrong, "nonsense-with-a-hunter2")]].concat();
        let output = run(service, &settings).await;
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{service} started");
        assert!(text.contains(wrong) && !text.contains("hunter2"), "{service}: {text}");
    }
}

#[tokio::test]
async fn help_names_every_variable() {
    for service in ["broker", "auth", "logger", "mailer", "listener", "frontend"] {
        let output = command(service, &[]).arg("--help").output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains("[env: PORT=") && text.contains("[env: LOG_LEVEL="),
            "{text}"
        );
    }
}
