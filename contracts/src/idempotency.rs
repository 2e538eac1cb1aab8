//! Ids that come out the same each time: of a request that is sent again, and of what it asks for.

use serde::Serialize;
use uuid::Uuid;

/// The namespace of ids that are derived from a caller and a key.
const KEYS: Uuid = Uuid::from_u128(0x7c1f_6a0e_52d4_4b8e_9d0a_3f6b_1e57_c2a4);
/// The namespace of digests.
const DIGESTS: Uuid = Uuid::from_u128(0x2b9e_4d7a_8c35_4f1b_a6e2_90d8_47f3_15bc);
/// What is said of a key that comes with another payload.
pub const KEY_CONFLICT: &str = "the Idempotency-Key was used before with another payload";
/// The longest key, in characters.
pub const MAX_KEY: usize = 255;

/// What a client calls a request, so that it can send it again: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Reads a key; `Err` says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_KEY || !text.iter().all(u8::is_ascii_graphic) {
            return Err(format!("must be 1 to {MAX_KEY} visible ASCII characters"));
        }
        Ok(Self(text.iter().copied().map(char::from).collect()))
    }

    /// The id of the effect that `caller` asks for with this key: the same each time, whichever replica makes it. A
    /// caller is whoever shares their keys with nobody; an action has keys of its own.
    pub fn id(&self, caller: &[u8], action: &str) -> Uuid {
        // The length in front keeps a caller that ends like a key apart from another.
        let (length, rest) = (format!("{}:", caller.len()), format!(":{action}:{}", self.0));
        Uuid::new_v5(&KEYS, &[length.as_bytes(), caller, rest.as_bytes()].concat())
    }
}

/// A digest of a payload, by which another one under the same id is noticed. 122 bits of SHA-1: it tells mistakes
/// apart, not forgeries.
pub fn digest<T: Serialize>(payload: &T) -> Uuid {
    // A payload was JSON before, and is JSON again: the keys of an object are in their order.
    let bytes = serde_json::to_vec(payload).unwrap_or_default();
    Uuid::new_v5(&DIGESTS, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        for good in ["a", "order-17/é".trim_end_matches("/é"), &"x".repeat(255)] {
            assert!(Key::parse(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "é", "a\u{7f}", &"x".repeat(256)] {
            assert!(Key::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_the_same_for_the_same_caller_action_and_key_only() {
        let id = |caller: &str, action, key: &str| {
            Key::parse(key.as_bytes()).unwrap().id(caller.as_bytes(), action)
        };
        assert_eq!(id("ada", "log", "1"), id("ada", "log", "1"));
        let others =
            [id("bob", "log", "1"), id("ada", "mail", "1"), id("ada", "log", "2"), id("", "log", "1")];
        assert!(others.iter().all(|other| *other != id("ada", "log", "1")));
        assert_ne!(id("a:log", "log", "1"), id("a", "log:log", "1"));
    }

    #[test]
    fn a_digest_does_not_mind_the_order_of_keys() {
        let of = |text: &str| digest(&serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(of(r#"{"a":1,"b":2}"#), of(r#"{"b":2,"a":1}"#));
        assert_ne!(digest(&json!({"a": 1})), digest(&json!({"a": 2})));
    }
}
