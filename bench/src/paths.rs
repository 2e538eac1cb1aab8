//! The paths, one file each, with the floor beside ours.

pub(crate) mod auth;
pub(crate) mod consume;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod mail;
pub(crate) mod publish;
pub(crate) mod reconnect;
pub(crate) mod relay;

use clap::ValueEnum;

use crate::figures::Outcome;
use crate::setup::Setup;

/// What can be measured, in the order in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Path {
    /// `POST /`.
    Http,
    /// The `log` action, over RPC.
    Log,
    /// The `auth` action.
    Auth,
    /// The `mail` action.
    Mail,
    /// Publishing with confirms, and the `log` action through RabbitMQ.
    Publish,
    /// From the queue into the log.
    Consume,
    /// From the outbox into the queue.
    Relay,
    /// After RabbitMQ was killed.
    Reconnect,
}

impl Path {
    /// Every path.
    pub(crate) const ALL: [Self; 8] = [
        Self::Http,
        Self::Log,
        Self::Auth,
        Self::Mail,
        Self::Publish,
        Self::Consume,
        Self::Relay,
        Self::Reconnect,
    ];

    /// Measures it.
    pub(crate) fn measure(self, setup: &Setup) -> anyhow::Result<Outcome> {
        match self {
            Self::Http => http::measure(setup),
            Self::Log => log::measure(setup),
            Self::Auth => auth::measure(setup),
            Self::Mail => mail::measure(setup),
            Self::Publish => publish::measure(setup),
            Self::Consume => consume::measure(setup),
            Self::Relay => relay::measure(setup),
            Self::Reconnect => reconnect::measure(setup),
        }
    }
}
