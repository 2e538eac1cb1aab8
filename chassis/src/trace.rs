//! W3C Trace Context: which trace a request belongs to, and which span of it is at work.
//!
//! Source: <https://www.w3.org/TR/trace-context/>, level 1. Kept apart from OpenTelemetry, so that one trace
//! id goes from the browser to the document also where no spans are exported.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use http::HeaderValue;

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: NonZeroU128,
    span_id: NonZeroU64,
    sampled: bool,
}

impl TraceContext {
    /// A place from its parts, as OpenTelemetry and tarpc have them; `None` where an id is zero.
    pub fn from_parts(trace_id: u128, span_id: u64, sampled: bool) -> Option<Self> {
        Some(Self { trace_id: NonZeroU128::new(trace_id)?, span_id: NonZeroU64::new(span_id)?, sampled })
    }

    /// The beginning of a new trace.
    pub fn root() -> Self {
        Self { trace_id: random_u128(), span_id: random_u64(), sampled: true }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: random_u64(), ..self }
    }

    /// Reads a `traceparent` header. Of a version after 00 only the four known parts are read, as the
    /// recommendation asks; anything malformed is `None`, and the caller begins a new trace.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let version = hex(&bytes[..2])?;
        if version == 0xff || (version == 0 && bytes.len() != 55) || (bytes.len() > 55 && bytes[55] != b'-') {
            return None;
        }
        let span_id = u64::try_from(hex(&bytes[36..52])?).ok()?;
        Self::from_parts(hex(&bytes[3..35])?, span_id, hex(&bytes[53..55])? & 1 == 1)
    }

    /// The id of the whole trace.
    pub fn trace_id(self) -> u128 {
        self.trace_id.get()
    }

    /// The id of the span.
    pub fn span_id(self) -> u64 {
        self.span_id.get()
    }

    /// Whether the caller records this trace.
    pub fn sampled(self) -> bool {
        self.sampled
    }

    /// The trace id as 32 lowercase hexadecimal digits.
    pub fn trace_id_hex(self) -> String {
        digits::<32>(self.trace_id()).into_iter().map(char::from).collect()
    }

    /// The value of a `traceparent` header.
    pub fn header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&digits::<32>(self.trace_id()));
        text[36..52].copy_from_slice(&digits::<16>(self.span_id().into()));
        text[54] += u8::from(self.sampled);
        // ASCII by its making.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The last `N` hexadecimal digits of a number, lowercase. Every request writes some: this takes a tenth of what
/// formatting takes.
pub(crate) fn digits<const N: usize>(mut number: u128) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    digits
}

impl fmt::Display for TraceContext {
    /// The `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Lowercase hexadecimal digits only, as the recommendation asks.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(nibble))
    })
}

fn random_u64() -> NonZeroU64 {
    NonZeroU64::new(fastrand::u64(..)).unwrap_or(NonZeroU64::MIN)
}

fn random_u128() -> NonZeroU128 {
    NonZeroU128::new(fastrand::u128(..)).unwrap_or(NonZeroU128::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_header_survives_reading_and_writing() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.header(), EXAMPLE);
        assert_eq!(context.trace_id_hex(), "0af7651916cd43dd8448eb211c80319c");
        assert!(context.sampled());
    }

    #[test]
    fn malformed_headers_are_refused() {
        for bad in [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-1",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_read_by_its_known_parts() {
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-brings";
        assert_eq!(TraceContext::parse(later), TraceContext::parse(EXAMPLE));
    }

    #[test]
    fn a_child_stays_in_the_trace() {
        let parent = TraceContext::root();
        let child = parent.child();
        assert_eq!(child.trace_id(), parent.trace_id());
        assert_ne!(child.span_id(), parent.span_id());
    }
}
