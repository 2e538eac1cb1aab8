//! `GET /health`: the whole system on one page.
//!
//! Each service is asked for its own readiness, which names what it misses; RabbitMQ is looked at from here.

use std::time::Duration;

use chassis::amqp::Publisher;
use chassis::health::Check;
use chassis::http::Answer;
use chassis::http::client::Peer;
use chassis::rpc::LoggerClient;
use contracts::reply::Reply;
use futures_util::future::join_all;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::config::Config;

/// How long one service may take to say how it is.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Everything whose health is the system's.
#[derive(Clone)]
pub(crate) struct System {
    services: Vec<Peer>,
    logger: LoggerClient,
    publisher: Publisher,
}

#[derive(Serialize)]
struct Services {
    services: Vec<Check>,
}

impl System {
    pub(crate) fn new(config: &Config, logger: LoggerClient, publisher: Publisher) -> Self {
        let peer = |name, base: &url::Url| Peer::new(name, base.clone(), "broker", PATIENCE);
        let services = vec![
            peer("auth", &config.auth_service_url),
            peer("logger", &config.logger_service_url),
            peer("mailer", &config.mail_service_url),
            peer("listener", &config.listener_service_url),
        ];
        Self { services, logger, publisher }
    }

    /// 200 when all is well, else 503 that names what is not.
    pub(crate) async fn answer(&self) -> Answer {
        let asked = join_all(self.services.iter().map(ask));
        let (mut services, logger, publisher) =
            tokio::join!(asked, self.logger.check(), self.publisher.check());
        services.insert(0, check("broker", logger.map_err(|error| format!("the logger: {error}"))));
        services.push(check("RabbitMQ", publisher));
        let ill: Vec<_> =
            services.iter().filter(|service| !service.ok).map(|service| service.name.clone()).collect();
        let answer = if ill.is_empty() {
            Answer::ok(StatusCode::OK, "healthy")
        } else {
            Answer::failed(StatusCode::SERVICE_UNAVAILABLE, format!("not healthy: {}", ill.join(", ")))
        };
        answer.with_data(&Services { services })
    }
}

async fn ask(service: &Peer) -> Check {
    let result = match service.probe("/readyz").await {
        Ok(answer) if answer.status == StatusCode::OK => Ok(()),
        Ok(answer) => {
            let said = answer.json::<Reply<Value>>().map(|reply| reply.message);
            Err(said.unwrap_or_else(|error| error.to_string()))
        }
        Err(error) => Err(error.to_string()),
    };
    check(service.name(), result)
}

fn check(name: &str, result: Result<(), String>) -> Check {
    Check { name: name.to_owned(), ok: result.is_ok(), error: result.err() }
}
