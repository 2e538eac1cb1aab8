//! What can go wrong with a call, and what the client of this service is told about it.

use contracts::logger::AppendError;
use http::StatusCode;
use tarpc::client::RpcError;
use thiserror::Error;

use crate::breaker::BreakerError;
use crate::http::Answer;

/// Why a call to the logger gave nothing. None of them says that there was no effect but [`Self::Refused`] and [`Self::Conflict`]; the
/// same call may be made again, because an entry is stored once by its id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RpcFailure {
    /// There is no connection to the logger: the call was not made.
    #[error("the logger is not reachable")]
    Down,
    /// The connection broke under the call, each time that it was made.
    #[error("the logger broke off")]
    BrokeOff,
    /// The logger did not answer before the deadline.
    #[error("the logger did not answer in time")]
    TooSlow,
    /// The logger failed to answer so often that it is left alone for a moment.
    #[error("the logger is left alone for a moment: it did not answer in time")]
    Open,
    /// Too many calls are in flight, here or there.
    #[error("too many calls to the logger are in flight")]
    Busy,
    /// The logger is there, and this is not.
    #[error("the logger answered that {0} is not available")]
    Unavailable(String),
    /// The entry can't be stored, now or later.
    #[error("the logger refused the entry: {0}")]
    Refused(String),
    /// The id of the entry belongs to another one.
    #[error("the id belongs to another entry")]
    Conflict,
    /// The logger gave an answer that makes no sense.
    #[error("the logger answered nonsense: {0}")]
    Nonsense(String),
}

impl RpcFailure {
    /// Whether it says that the logger hangs. One that is down is noticed by its connection.
    pub(super) fn is_slowness(&self) -> bool {
        matches!(self, Self::TooSlow)
    }

    /// Whether the logger had the call and gave no answer of its own: the call may be what it failed at.
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::BrokeOff | Self::TooSlow | Self::Nonsense(_))
    }
}

impl From<AppendError> for RpcFailure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable(what) => Self::Unavailable(what),
            AppendError::Refused(why) => Self::Refused(why),
            AppendError::Conflict => Self::Conflict,
        }
    }
}

impl From<BreakerError<RpcFailure>> for RpcFailure {
    fn from(error: BreakerError<RpcFailure>) -> Self {
        match error {
            BreakerError::Open => Self::Open,
            BreakerError::Failed(failure) => failure,
        }
    }
}

impl From<RpcError> for RpcFailure {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Shutdown | RpcError::Channel(_) => Self::Down,
            RpcError::DeadlineExceeded => Self::TooSlow,
            // Nothing is written at this point: the frame could not be made.
            RpcError::Send(error) => Self::Refused(error.to_string()),
            RpcError::Server(error) if error.kind == std::io::ErrorKind::WouldBlock => Self::Busy,
            RpcError::Server(error) => Self::Nonsense(error.to_string()),
        }
    }
}

/// The one place where a failed call is logged.
impl From<RpcFailure> for Answer {
    fn from(failure: RpcFailure) -> Self {
        tracing::warn!(%failure, "a call to the logger failed");
        match failure {
            RpcFailure::Down | RpcFailure::BrokeOff | RpcFailure::Open => Self::unavailable("the logger"),
            RpcFailure::TooSlow => Self::too_slow("the logger"),
            RpcFailure::Busy => {
                Self::failed(StatusCode::SERVICE_UNAVAILABLE, "the logger is busy, try again shortly")
            }
            RpcFailure::Unavailable(what) => Self::unavailable(&format!("the logger's {what}")),
            RpcFailure::Refused(why) => {
                Self::failed(StatusCode::UNPROCESSABLE_ENTITY, format!("the logger refused the entry: {why}"))
            }
            RpcFailure::Conflict => Self::key_conflict(),
            RpcFailure::Nonsense(_) => {
                let message = "the logger gave an answer that makes no sense";
                Self::failed(StatusCode::BAD_GATEWAY, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_the_logger_had_is_doubtful() {
        use RpcFailure::*;
        assert!(BrokeOff.is_doubtful() && TooSlow.is_doubtful() && Nonsense("a panic".into()).is_doubtful());
        for failure in [Down, Open, Busy, Unavailable("MongoDB".into()), Refused("no".into()), Conflict] {
            assert!(!failure.is_doubtful() && !failure.is_slowness(), "{failure}");
        }
        assert!(TooSlow.is_slowness() && !BrokeOff.is_slowness());
    }

    #[test]
    fn an_answer_names_what_is_away_and_never_a_chain() {
        for (failure, status, message) in [
            (RpcFailure::Down, 503, "the logger is not available, try again shortly"),
            (RpcFailure::BrokeOff, 503, "the logger is not available, try again shortly"),
            (RpcFailure::Open, 503, "the logger is not available, try again shortly"),
            (RpcFailure::Busy, 503, "the logger is busy, try again shortly"),
            (RpcFailure::TooSlow, 504, "the logger did not answer in time"),
            (
                RpcFailure::Unavailable("MongoDB".into()),
                503,
                "the logger's MongoDB is not available, try again shortly",
            ),
            (RpcFailure::Refused("too large".into()), 422, "the logger refused the entry: too large"),
            (RpcFailure::Conflict, 409, "the Idempotency-Key was used before with another payload"),
            (RpcFailure::Nonsense("x".into()), 502, "the logger gave an answer that makes no sense"),
        ] {
            let answer = Answer::from(failure);
            assert_eq!((answer.status().as_u16(), answer.message()), (status, message));
        }
    }
}
