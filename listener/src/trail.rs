//! The trail queue: each message tells of a step, which the logger keeps ([`crate::store`]).

use chassis::amqp::Delivery;
use chassis::request::RequestContext;
use chassis::rpc::LoggerClient;
use contracts::trail::Step;

use crate::store::{Keep, Outcomes};

/// The messages of the trail queue.
#[derive(Debug)]
pub(crate) struct Trail;

impl Keep for Trail {
    type Item = Step;

    fn read(&self, delivery: &Delivery) -> Result<Step, String> {
        let event = serde_json::from_slice(delivery.body());
        Step::told_by(event.map_err(|error| format!("the body is not a CloudEvent: {error}"))?)
    }

    async fn send(&self, logger: &LoggerClient, context: &RequestContext, steps: Vec<Step>) -> Outcomes {
        logger.record(context, steps).await
    }
}
