//! The `auth` action: credentials in, the user out.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::validation::{Form, Text, Violations};

/// The longest address that SMTP can carry (RFC 5321, 4.5.3.1).
const MAX_EMAIL: usize = 254;
/// Long enough for any passphrase, short enough not to be a denial of service.
const MAX_PASSWORD: usize = 1024;

/// What a person proves who they are with. The body of `POST /authenticate`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The address, compared without regard to case.
    pub email: String,
    /// The password, as typed.
    pub password: String,
}

impl Credentials {
    /// Reads and checks the payload. Whether the address exists is not checked here.
    pub fn parse(payload: Value) -> Result<Self, Violations> {
        let mut form = Form::of("auth", payload)?;
        let email = form.required("email", Text::Line, MAX_EMAIL);
        let password = form.required("password", Text::Line, MAX_PASSWORD);
        form.finish(Self { email, password })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("email", &self.email).finish_non_exhaustive()
    }
}

/// A user, without the password's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub id: i64,
    /// The address, as registered.
    pub email: String,
    /// The given name.
    pub first_name: String,
    /// The family name.
    pub last_name: String,
    /// Whether the user may log in.
    pub active: bool,
    /// When the user was registered.
    pub created_at: DateTime<Utc>,
    /// When the user was last changed.
    pub updated_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_password_is_never_shown() {
        let credentials = Credentials::parse(json!({"email": "a@b.c", "password": "hunter2"})).unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn both_fields_are_named_when_both_are_wrong() {
        let violations = Credentials::parse(json!({"password": ""})).unwrap_err();
        assert_eq!(violations.to_string(), "email is required; password must not be empty");
    }
}
