//! One log line: a JSON object with `ts`, `level`, `service`, the message and its fields, and the ids of the
//! request that is worked on.
//!
//! Written by hand rather than by a formatter over spans, because every request writes one: it costs about a
//! microsecond.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::sink;
use crate::request::RequestContext;

static SERVICE: OnceLock<&'static str> = OnceLock::new();

thread_local! {
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
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
    pub caller: &'a dyn fmt::Display,
}

/// Writes the line of a request.
pub fn request(context: &RequestContext, line: &Request<'_>) {
    if !tracing::enabled!(target: "request", Level::INFO) {
        return;
    }
    emit("info", |out| {
        out.push_str(r#","message":"request""#);
        let micros = line.duration.as_micros();
        write!(out, r#","method":"{}","route":""#, line.method)?;
        escape(out, line.route);
        write!(
            out,
            r#"","status":{},"duration_ms":{}.{:03},"caller":""#,
            line.status,
            micros / 1000,
            micros % 1000
        )?;
        write!(Escaped(out), "{}", line.caller)?;
        out.push('"');
        ids(out, context)
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
            RequestContext::with_current(|context| ids(out, context)).unwrap_or(Ok(()))
        });
    }
}

fn emit(level: &str, rest: impl FnOnce(&mut String) -> fmt::Result) {
    BUFFER.with(|buffer| {
        // A value that logs while it is being written finds the buffer taken and is left out.
        let Ok(mut out) = buffer.try_borrow_mut() else { return };
        out.clear();
        out.push_str(r#"{"ts":""#);
        let write_line = || -> fmt::Result {
            timestamp(&mut out, Utc::now())?;
            write!(out, r#"","level":"{level}","service":"{}""#, SERVICE.get().unwrap_or(&""))?;
            rest(&mut out)?;
            out.push_str("}\n");
            Ok(())
        };
        if write_line().is_ok() {
            sink::write(out.as_bytes());
        }
    });
}

fn ids(out: &mut String, context: &RequestContext) -> fmt::Result {
    write!(out, r#","id":"{}","trace_id":"{:032x}""#, context.id.as_hyphenated(), context.trace.trace_id())?;
    if let Some(request_id) = context.given_request_id() {
        out.push_str(r#","request_id":""#);
        escape(out, request_id);
        out.push('"');
    }
    Ok(())
}

/// RFC 3339 in UTC, in milliseconds.
fn timestamp(out: &mut String, t: DateTime<Utc>) -> fmt::Result {
    let millis = t.timestamp_subsec_millis();
    write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// Appends `text` as the inside of a JSON string (RFC 8259, 7).
fn escape(out: &mut String, text: &str) {
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
        timestamp(&mut out, time).unwrap();
        assert_eq!(out, "2026-01-02T03:04:05.007Z");
        assert_eq!(DateTime::parse_from_rfc3339(&out).unwrap(), time);
    }
}
