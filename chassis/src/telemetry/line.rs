//! One log line: a JSON object with `ts`, `level`, `service`, the message and its fields, and the ids of the
//! request that is worked on.
//!
//! Written by hand rather than by a formatter over spans, because every request writes one: it costs about a
//! microsecond.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use uuid::Uuid;

use super::sink;
use crate::request::RequestContext;
use crate::trace::digits;

static SERVICE: OnceLock<&'static str> = OnceLock::new();

thread_local! {
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
    /// The last second that was written, and its text.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Says which service the lines of this process come from.
pub(super) fn name_service(name: &'static str) {
    // Set once; a second call, in a test, keeps the first name.
    let _ = SERVICE.set(name);
}

/// The line of one finished request.
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The route's pattern, or the path where none matched.
    pub route: &'a str,
    /// The status answered.
    pub status: u16,
    /// From the first byte of the request to the head of the answer.
    pub duration: Duration,
    /// Who asked: another service by its name, or a client by its address.
    pub caller: &'a str,
}

/// What an orchestrator asks every few seconds; a good answer is worth a line only to who looks for it.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Writes the line of a request.
pub fn request(context: &RequestContext, line: &Request<'_>) {
    let quiet = line.status < 400 && PROBES.contains(&line.route);
    let (level, enabled) = if quiet {
        ("debug", tracing::enabled!(target: "request", Level::DEBUG))
    } else {
        ("info", tracing::enabled!(target: "request", Level::INFO))
    };
    if !enabled {
        return;
    }
    emit(level, |out| {
        let micros = line.duration.as_micros();
        for part in [r#","message":"request","method":""#, line.method, r#"","route":""#] {
            out.push_str(part);
        }
        escape(out, line.route);
        write!(out, r#"","status":{},"duration_ms":{}.{:03},"#, line.status, micros / 1000, micros % 1000)?;
        out.push_str(r#""caller":""#);
        escape(out, line.caller);
        out.push('"');
        ids(out, context);
        Ok(())
    });
}

/// The layer that writes an event as a line.
#[derive(Debug)]
pub(super) struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        emit(level, |out| {
            write!(out, r#","target":"{}""#, metadata.target())?;
            let mut fields = Fields { out, result: Ok(()) };
            event.record(&mut fields);
            fields.result?;
            RequestContext::with_current(|context| ids(out, context));
            Ok(())
        });
    }
}

fn emit(level: &str, rest: impl FnOnce(&mut String) -> fmt::Result) {
    BUFFER.with(|buffer| {
        // A value that logs while it is being written finds the buffer taken and is left out.
        let Ok(mut out) = buffer.try_borrow_mut() else { return };
        out.clear();
        out.push_str(r#"{"ts":""#);
        timestamp(&mut out, Utc::now());
        for part in [r#"","level":""#, level, r#"","service":""#, SERVICE.get().unwrap_or(&""), r#"""#] {
            out.push_str(part);
        }
        if rest(&mut out).is_ok() {
            out.push_str("}\n");
            sink::write(out.as_bytes());
        }
    });
}

fn ids(out: &mut String, context: &RequestContext) {
    let mut buffer = Uuid::encode_buffer();
    out.push_str(r#","id":""#);
    out.push_str(context.id.hyphenated().encode_lower(&mut buffer));
    out.push_str(r#"","trace_id":""#);
    out.extend(digits::<32>(context.trace.trace_id()).map(char::from));
    out.push('"');
    if let Some(request_id) = context.given_request_id() {
        out.push_str(r#","request_id":""#);
        escape(out, request_id);
        out.push('"');
    }
}

/// RFC 3339 in UTC, in milliseconds. The second is kept, as many lines share one.
fn timestamp(out: &mut String, time: DateTime<Utc>) {
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != time.timestamp() {
            *second = time.timestamp();
            *text = time.format("%Y-%m-%dT%H:%M:%S.").to_string();
        }
        out.push_str(text);
    });
    let millis = time.timestamp_subsec_millis();
    for place in [100, 10, 1] {
        out.push(char::from_digit(millis / place % 10, 10).unwrap_or('0'));
    }
    out.push('Z');
}

/// Appends `text` as the inside of a JSON string (RFC 8259, 7).
fn escape(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                // Writing to a string can't fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// Formats into the inside of a JSON string.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// Appends the fields of an event.
struct Fields<'a> {
    out: &'a mut String,
    result: fmt::Result,
}

impl Fields<'_> {
    fn key(&mut self, field: &Field) {
        self.out.push_str(",\"");
        escape(self.out, field.name());
        self.out.push_str("\":");
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        self.result = self.result.and(write!(self.out, "{value}"));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.key(field);
        self.out.push('"');
        self.result = self.result.and(write!(Escaped(self.out), "{value:?}"));
        self.out.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        self.out.push('"');
        escape(self.out, value);
        self.out.push('"');
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.record_debug(field, &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_makes_a_valid_json_string() {
        let nasty = "a\"b\\c\nd\re\tf\u{1}g\u{7f}é😀";
        let mut out = String::from("\"");
        escape(&mut out, nasty);
        out.push('"');
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), nasty);
    }

    #[test]
    fn a_timestamp_is_rfc_3339() {
        let mut out = String::new();
        let time = DateTime::from_timestamp_millis(1_767_323_045_007).unwrap();
        timestamp(&mut out, time);
        assert_eq!(out, "2026-01-02T03:04:05.007Z");
        assert_eq!(DateTime::parse_from_rfc3339(&out).unwrap(), time);
    }
}
