//! The message server of a test: names of its own, a proxy before it, and a look from the side.

use std::time::Duration;

use chassis::amqp::Publisher;
use chrono::Utc;
use contracts::event::CloudEvent;
use contracts::topology::Topology;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use secrecy::SecretString;
use testkit::proxy::FaultProxy;
use testkit::{eventually, namespace, setting};
use url::Url;
use uuid::Uuid;

/// How long anything may take that is to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Rabbit {
    pub(crate) topology: Topology,
    pub(crate) proxy: FaultProxy,
    /// Goes through the proxy.
    pub(crate) url: SecretString,
    connection: Connection,
    channel: Channel,
}

impl Rabbit {
    pub(crate) async fn start() -> Self {
        let direct = Url::parse(&setting("RABBITMQ_URL")).unwrap();
        let proxy = FaultProxy::to(&format!("{}:{}", direct.host().unwrap(), direct.port().unwrap())).await;
        let url = through(&direct, proxy.address());
        let connection = Connection::connect(direct.as_str(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { topology: Topology::within(&namespace()), proxy, url, connection, channel }
    }

    /// With the shortest heartbeat: a silent server is noticed within two of them.
    pub(crate) async fn with_a_quick_heartbeat() -> Self {
        let mut rabbit = Self::start().await;
        let mut url = Url::parse(&setting("RABBITMQ_URL")).unwrap();
        url.set_query(Some("heartbeat=1"));
        rabbit.url = through(&url, rabbit.proxy.address());
        rabbit
    }

    /// A channel that goes past the proxy. A new one each time, because an error closes a channel.
    pub(crate) async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// How many messages wait in a queue.
    pub(crate) async fn count(&self, queue: &str) -> Result<u32, String> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel().await.queue_declare(queue.into(), passive, FieldTable::default()).await;
        queue.map(|queue| queue.message_count()).map_err(|error| error.to_string())
    }

    pub(crate) async fn counts(&self, queue: &str, wanted: u32) {
        eventually(SOON, "messages in the queue", || async {
            match self.count(queue).await {
                Ok(count) if count == wanted => Ok(()),
                other => Err(format!("{queue}: {other:?} instead of {wanted}")),
            }
        })
        .await;
    }

    /// Takes one message out of a queue.
    pub(crate) async fn take(&self, queue: &str) -> BasicGetMessage {
        let no_ack = BasicGetOptions { no_ack: true };
        eventually(SOON, "a message", || async {
            let got =
                self.channel.basic_get(queue.into(), no_ack).await.map_err(|error| error.to_string())?;
            got.ok_or_else(|| format!("{queue} is empty"))
        })
        .await
    }

    /// Puts a text straight into a queue.
    pub(crate) async fn put(&self, queue: &str, body: &str, properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let sent =
            self.channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties).await;
        sent.unwrap().await.unwrap();
    }

    pub(crate) async fn publish(&self, publisher: &Publisher) -> Result<(), chassis::amqp::PublishError> {
        publisher.publish(&self.topology.events, "log.info", &event("x")).await
    }

    pub(crate) async fn publishes(&self, publisher: &Publisher) {
        eventually(SOON, "a confirm", || async {
            publisher.check().await?;
            self.publish(publisher).await.map_err(|error| error.to_string())
        })
        .await;
    }

    pub(crate) async fn clean(self) {
        testkit::rabbitmq::clean(&self.topology).await;
    }
}

pub(crate) fn event(data: &str) -> CloudEvent<String> {
    CloudEvent::new(Uuid::now_v7(), "switchboard/test", "log.info", Utc::now(), data.to_owned())
}

/// The same URL at another address.
pub(crate) fn through(url: &Url, address: std::net::SocketAddr) -> SecretString {
    let mut url = url.clone();
    url.set_host(Some(&address.ip().to_string())).unwrap();
    url.set_port(Some(address.port())).unwrap();
    SecretString::from(url.to_string())
}
