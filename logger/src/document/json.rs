//! JSON as native BSON, and back, without losing anything.
//!
//! Integers are BSON integers, the rest of the numbers doubles; an integer beyond 63 bits is a Decimal128, which
//! is exact to 34 digits. What only other programs write (dates, object ids, …) reads as a string.

use std::str::FromStr as _;

use bson::raw::{CStr, RawArray, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::{Bson, Decimal128};
use serde_json::{Map, Number, Value};

use super::DecodeError;
use super::entry::EncodeError;

/// How deep a value may nest. MongoDB stops at 100 levels for the whole document; what comes through the
/// validation of the `contracts` has fewer.
pub const MAX_DEPTH: usize = 90;

/// JSON to BSON.
pub fn encode(value: &Value) -> Result<RawBson, EncodeError> {
    encode_at(value, 0)
}

/// A JSON object to a BSON document.
pub fn encode_object(object: &Map<String, Value>) -> Result<RawDocumentBuf, EncodeError> {
    object_at(object, 0)
}

fn encode_at(value: &Value, depth: usize) -> Result<RawBson, EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    Ok(match value {
        Value::Null => RawBson::Null,
        Value::Bool(value) => RawBson::Boolean(*value),
        Value::Number(number) => encode_number(number),
        Value::String(text) => RawBson::String(text.clone()),
        Value::Array(items) => {
            let mut array = RawArrayBuf::new();
            for item in items {
                array.push(encode_at(item, depth + 1)?);
            }
            RawBson::Array(array)
        }
        Value::Object(object) => RawBson::Document(object_at(object, depth)?),
    })
}

fn object_at(object: &Map<String, Value>, depth: usize) -> Result<RawDocumentBuf, EncodeError> {
    let mut document = RawDocumentBuf::new();
    for (key, item) in object {
        let key = <&CStr>::try_from(key.as_str()).map_err(|_| EncodeError::NulInKey)?;
        document.append(key, encode_at(item, depth + 1)?);
    }
    Ok(document)
}

fn encode_number(number: &Number) -> RawBson {
    if let Some(integer) = number.as_i64() {
        return i32::try_from(integer).map_or(RawBson::Int64(integer), RawBson::Int32);
    }
    if let Some(integer) = number.as_u64() {
        // Twenty digits at most: it always is a Decimal128.
        return Decimal128::from_str(&integer.to_string()).map_or(RawBson::Null, RawBson::Decimal128);
    }
    RawBson::Double(number.as_f64().unwrap_or(f64::NAN))
}

/// BSON to JSON.
pub fn decode(value: RawBsonRef<'_>) -> Result<Value, DecodeError> {
    Ok(match value {
        RawBsonRef::Null | RawBsonRef::Undefined => Value::Null,
        RawBsonRef::Boolean(value) => Value::Bool(value),
        RawBsonRef::Int32(integer) => Value::from(integer),
        RawBsonRef::Int64(integer) => Value::from(integer),
        RawBsonRef::Double(number) => Value::from(number),
        RawBsonRef::Decimal128(decimal) => decode_decimal(decimal),
        RawBsonRef::String(text) => Value::from(text),
        RawBsonRef::Array(array) => decode_array(array)?,
        RawBsonRef::Document(document) => Value::Object(decode_object(document)?),
        foreign => Value::String(Bson::try_from(foreign)?.to_string()),
    })
}

fn decode_array(array: &RawArray) -> Result<Value, DecodeError> {
    array.into_iter().map(|item| decode(item?)).collect::<Result<_, _>>().map(Value::Array)
}

/// A BSON document to a JSON object.
pub fn decode_object(document: &RawDocument) -> Result<Map<String, Value>, DecodeError> {
    let fields = document.iter().map(|field| {
        let (key, item) = field?;
        Ok((key.as_str().to_owned(), decode(item)?))
    });
    fields.collect()
}

fn decode_decimal(decimal: Decimal128) -> Value {
    let digits = decimal.to_string();
    digits.parse::<u64>().map_or(Value::String(digits), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn round_trip(value: &Value) -> Value {
        let document = bson::rawdoc! { "v": encode(value).unwrap() };
        decode(document.get("v").unwrap().unwrap()).unwrap()
    }

    #[test]
    fn every_number_keeps_its_value() {
        for number in [
            json!(0),
            json!(-1),
            json!(i32::MAX),
            json!(i64::from(i32::MAX) + 1),
            json!(i64::MIN),
            json!(i64::MAX),
            json!(i64::MAX as u64 + 1),
            json!(u64::MAX),
            json!(10_000_000_000_000_000_000_u64),
            json!(1.0),
            json!(-0.1),
            json!(f64::MAX),
            json!(f64::MIN_POSITIVE),
        ] {
            assert_eq!(round_trip(&number), number);
        }
    }

    #[test]
    fn an_integer_is_an_integer_for_other_programs_too() {
        assert_eq!(encode(&json!(5)).unwrap(), RawBson::Int32(5));
        assert_eq!(encode(&json!(1_u64 << 40)).unwrap(), RawBson::Int64(1 << 40));
        let RawBson::Decimal128(decimal) = encode(&json!(u64::MAX)).unwrap() else { panic!("no decimal") };
        assert_eq!(decimal.to_string(), u64::MAX.to_string());
    }

    #[test]
    fn what_other_programs_write_reads_as_text() {
        let document = bson::rawdoc! { "v": bson::oid::ObjectId::from_bytes([1; 12]) };
        let value = decode(document.get("v").unwrap().unwrap()).unwrap();
        assert!(value.as_str().unwrap().contains(&"01".repeat(12)), "{value}");
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[^\0]{0,8}", inner, 0..8)
                    .prop_map(|object| Value::Object(object.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_comes_back_as_it_was(value in json_value()) {
            prop_assert_eq!(round_trip(&value), value);
        }
    }
}
