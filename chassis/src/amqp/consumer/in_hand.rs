//! The batches that are worked on, and which of them is acknowledged next.

use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt as _};
use tokio_util::task::AbortOnDropHandle;

use super::Flow;
use super::batch::Finished;

/// The batches that are worked on: in order, so that one acknowledgement is for all up to it; or, of one message each, as
/// they end, so that a slow one holds up no other.
#[derive(Debug)]
pub(super) enum InHand {
    Ordered(FuturesOrdered<AbortOnDropHandle<Finished>>),
    Any(FuturesUnordered<AbortOnDropHandle<Finished>>),
}

impl InHand {
    /// None yet.
    pub(super) fn new(flow: Flow) -> Self {
        if flow.in_order() {
            Self::Ordered(FuturesOrdered::new())
        } else {
            Self::Any(FuturesUnordered::new())
        }
    }

    /// Adds one.
    pub(super) fn push(&mut self, batch: AbortOnDropHandle<Finished>) {
        match self {
            Self::Ordered(batches) => batches.push_back(batch),
            Self::Any(batches) => batches.push(batch),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ordered(batches) => batches.len(),
            Self::Any(batches) => batches.len(),
        }
    }

    /// The next that is finished; `None` where there are none.
    pub(super) async fn next(&mut self) -> Option<Result<Finished, tokio::task::JoinError>> {
        match self {
            Self::Ordered(batches) => batches.next().await,
            Self::Any(batches) => batches.next().await,
        }
    }
}
