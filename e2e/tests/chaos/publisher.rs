//! A publisher of another system: a bare message on `logs_topic`, with an id, and taken as sent once it is confirmed.

use std::time::Duration;

use contracts::topology::Topology;
use e2e::isolated::Isolated;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::time::timeout;

/// How long a message, or a connection, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that is made when it is needed.
#[derive(Default)]
pub(crate) struct Publisher(Option<(Connection, Channel)>);

impl Publisher {
    /// Sends a message; after an error it may be there, or not.
    pub(crate) async fn send(&mut self, system: &Isolated, id: &str, body: &[u8]) -> Result<(), String> {
        let sent = timeout(PATIENCE, self.try_to_send(system, id, body)).await;
        let sent = sent.map_err(|_| "it took too long".to_owned()).flatten();
        if sent.is_err() {
            self.0 = None;
        }
        sent
    }

    async fn try_to_send(&mut self, system: &Isolated, id: &str, body: &[u8]) -> Result<(), String> {
        let channel = match &self.0 {
            Some((_, channel)) => channel,
            None => &self.0.insert(connect(system).await.map_err(|error| error.to_string())?).1,
        };
        let exchange = Topology::within(&system.namespace).logs_topic;
        let properties = BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = channel.basic_publish(exchange.into(), "log.INFO".into(), options, body, properties).await;
        match sent.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

async fn connect(system: &Isolated) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(system.rabbitmq().as_str(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}
