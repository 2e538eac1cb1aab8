//! The templates of the mails: a text and an HTML each, from `templates/`, built in by `build.rs`.
//!
//! A template is ours; what a client gives is only ever a value in it, escaped where it is HTML, and rendering
//! is bounded in steps and in size.

use std::collections::BTreeMap;
use std::io;

use contracts::validation::Violation;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde_json::Map;
use thiserror::Error;

mod filters;

/// How many steps one rendering may take: a hundred thousand paragraphs or so.
const STEPS: u64 = 1_000_000;
/// How large a rendered part may be, in bytes: a message of 1 MiB of which each character needs escaping.
const LIMIT: usize = 8 * 1024 * 1024;

/// One template as it was built in.
struct Source {
    name: &'static str,
    text: &'static str,
    html: &'static str,
}

const SOURCES: &[Source] = &include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// Every template, ready to render.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
}

/// What a template can use: these four, and by their own names the values of the context.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    pub(crate) message: Option<&'a str>,
    pub(crate) subject: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) context: &'a Map<String, serde_json::Value>,
}

/// Both forms of a mail.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) html: String,
}

/// Why a template gives no mail.
#[derive(Debug, Error)]
pub(crate) enum TemplateError {
    /// There is none of that name.
    #[error("is not one of {known}")]
    Unknown {
        /// The names of those that there are.
        known: String,
    },
    /// It needs a value that it was not given.
    #[error("is required by the template {template}")]
    Missing {
        /// The template.
        template: String,
        /// The value: `fact.name`.
        variable: String,
    },
    /// It was given a value that it can't use.
    #[error("does not suit the template {template}: {why}")]
    Unsuitable {
        /// The template.
        template: String,
        /// What is wrong.
        why: String,
    },
    /// It has become too large or takes too long.
    #[error("makes too large a mail of these values")]
    TooLarge,
}

impl TemplateError {
    /// The complaint about the payload that this is.
    pub(crate) fn violation(&self) -> Violation {
        let field = match self {
            Self::Unknown { .. } | Self::TooLarge => "template".to_owned(),
            Self::Missing { variable, .. } if variable == "message" => variable.clone(),
            Self::Missing { variable, .. } => format!("context.{variable}"),
            Self::Unsuitable { .. } => "context".to_owned(),
        };
        Violation { field, message: self.to_string() }
    }
}

impl Templates {
    /// Loads what was built in. It fails only where a template is not well-formed, which a test rules out.
    pub(crate) fn load() -> Result<Self, minijinja::Error> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(STEPS));
        // So that an error says which value is missing.
        environment.set_debug(true);
        environment.set_auto_escape_callback(|file| {
            if file.strip_suffix(".txt").is_some() { AutoEscape::None } else { AutoEscape::Html }
        });
        environment.add_filter("default", minijinja::filters::default);
        environment.add_filter("paragraphs", filters::paragraphs);
        environment.add_filter("line_breaks", filters::line_breaks);
        environment.add_filter("link", filters::link);
        for source in SOURCES {
            environment.add_template_owned(format!("{}.txt", source.name), source.text)?;
            environment.add_template_owned(format!("{}.html", source.name), source.html)?;
        }
        Ok(Self { environment })
    }

    /// Renders both forms of the template called `name`.
    pub(crate) fn render(&self, name: &str, values: &Values<'_>) -> Result<Rendered, TemplateError> {
        if !SOURCES.iter().any(|source| source.name == name) {
            let known: Vec<_> = SOURCES.iter().map(|source| source.name).collect();
            return Err(TemplateError::Unknown { known: known.join(", ") });
        }
        // What is null is as if it were not given, as everywhere in a payload.
        let given = values.context.iter().filter(|(_, value)| !value.is_null());
        let mut all: BTreeMap<String, Value> =
            given.map(|(name, value)| (name.clone(), Value::from(Serde(value)))).collect();
        let own = [("subject", values.subject), ("from", values.from), ("to", values.to)];
        for (name, value) in own.into_iter().chain(values.message.map(|message| ("message", message))) {
            all.insert(name.to_owned(), Value::from(value));
        }
        let all = Value::from(all);
        Ok(Rendered {
            text: self.render_file(name, "txt", all.clone())?,
            html: self.render_file(name, "html", all)?,
        })
    }

    fn render_file(&self, name: &str, kind: &str, values: Value) -> Result<String, TemplateError> {
        let explain = |error: minijinja::Error| explain(name, &error);
        let template = self.environment.get_template(&format!("{name}.{kind}")).map_err(explain)?;
        let mut out = Bounded(Vec::with_capacity(4096));
        template.render_captured_to(values, &mut out).map_err(explain)?;
        String::from_utf8(out.0)
            .map_err(|error| TemplateError::Unsuitable { template: name.to_owned(), why: error.to_string() })
    }
}

/// What an error of the engine means for the client. Its own text is for whoever writes templates.
fn explain(template: &str, error: &minijinja::Error) -> TemplateError {
    let template = template.to_owned();
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::WriteFailure => TemplateError::TooLarge,
        _ if detail.contains("is undefined") => {
            let variable = detail.split('`').nth(1).unwrap_or_default().to_owned();
            TemplateError::Missing { template, variable }
        }
        _ => TemplateError::Unsuitable { template, why: detail.to_owned() },
    }
}

/// A writer that takes [`LIMIT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
