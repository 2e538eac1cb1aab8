//! What is kept as MongoDB documents, and back: an [`entry`], a [`step`], a [`letter`].
//!
//! Ids are UUIDs (BSON binary, subtype 4) and times are dates, in milliseconds. What is not there has no field.

pub mod entry;
pub mod json;
pub mod letter;
pub mod step;

use bson::raw::{BindRawBsonRef, CStr, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime};
use chrono::Utc;
use contracts::dead_letter::{Encoding, LetterState};
use contracts::log::Level;
use contracts::trail::StepKind;
use thiserror::Error;
use uuid::Uuid;

/// Why a document is not what it should be: another program wrote it.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The document itself.
    #[error("a document is not BSON: {0}")]
    Bson(String),
    /// A field is not there, or is something else than it should be.
    #[error("a document has no `{0}` of the right kind")]
    Field(&'static str),
}

impl From<bson::error::Error> for DecodeError {
    fn from(error: bson::error::Error) -> Self {
        Self::Bson(error.to_string())
    }
}

/// An id as it is stored: BSON binary, subtype 4.
pub fn binary(id: Uuid) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() }
}

/// A time as it is stored: in milliseconds.
pub fn date(at: chrono::DateTime<Utc>) -> DateTime {
    DateTime::from_millis(at.timestamp_millis())
}

/// Appends a field, if there is something in it.
fn append_some(document: &mut RawDocumentBuf, field: &CStr, value: Option<impl BindRawBsonRef>) {
    if let Some(value) = value {
        document.append(field, value);
    }
}

/// A field; `None` where it is not there, or of another kind.
pub fn optional<'a, T: Field<'a>>(
    document: &'a RawDocument,
    field: &'static str,
) -> Result<Option<T>, DecodeError> {
    Ok(document.get(field)?.and_then(T::read))
}

/// A field that must be there.
pub fn required<'a, T: Field<'a>>(document: &'a RawDocument, field: &'static str) -> Result<T, DecodeError> {
    optional(document, field)?.ok_or(DecodeError::Field(field))
}

/// What a field may be.
pub trait Field<'a>: Sized {
    /// Reads it; `None` where it is something else.
    fn read(value: RawBsonRef<'a>) -> Option<Self>;
}

impl<'a> Field<'a> for &'a str {
    fn read(value: RawBsonRef<'a>) -> Option<Self> {
        value.as_str()
    }
}

impl Field<'_> for String {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Field<'_> for bool {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_bool()
    }
}

impl Field<'_> for u32 {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        let number = value.as_i64().or_else(|| value.as_i32().map(i64::from));
        number.and_then(|number| number.try_into().ok())
    }
}

impl Field<'_> for Uuid {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_binary().and_then(|binary| Self::from_slice(binary.bytes).ok())
    }
}

impl Field<'_> for chrono::DateTime<Utc> {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_datetime().and_then(|date| Self::from_timestamp_millis(date.timestamp_millis()))
    }
}

impl Field<'_> for Level {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_str().and_then(Self::parse)
    }
}

impl Field<'_> for StepKind {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_str().and_then(Self::parse)
    }
}

impl Field<'_> for Encoding {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_str().and_then(Self::parse)
    }
}

impl Field<'_> for LetterState {
    fn read(value: RawBsonRef<'_>) -> Option<Self> {
        value.as_str().and_then(Self::parse)
    }
}
