//! The headers that keep the page to itself: it runs no script but its own files, and talks to no one but the
//! broker.

use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use url::Url;

/// The headers of every answer of the console.
#[derive(Clone, Debug)]
pub struct SecurityHeaders([(HeaderName, HeaderValue); 7]);

impl SecurityHeaders {
    /// The headers of a page that may call the broker at `broker`.
    ///
    /// There is no inline script or style, and no sink that takes HTML (`require-trusted-types-for`), so that
    /// nothing in an answer that is shown can become a part of the page.
    pub fn new(broker: &Url) -> Result<Self, header::InvalidHeaderValue> {
        let broker = broker.origin().ascii_serialization();
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self' {broker}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        );
        let fixed = HeaderValue::from_static;
        Ok(Self([
            (header::CONTENT_SECURITY_POLICY, HeaderValue::try_from(policy)?),
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::X_FRAME_OPTIONS, fixed("DENY")),
            (header::REFERRER_POLICY, fixed("no-referrer")),
            (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
            (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
            (
                HeaderName::from_static("permissions-policy"),
                fixed("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
            ),
        ]))
    }

    /// Adds them to an answer.
    pub fn apply(&self, response: &mut Response) {
        let headers = response.headers_mut();
        for (name, value) in &self.0 {
            headers.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_may_call_the_origin_of_the_broker_and_no_other() {
        let url = "https://broker.example:8443/api/v1".parse().unwrap();
        let SecurityHeaders([(_, policy), ..]) = SecurityHeaders::new(&url).unwrap();
        let policy = policy.to_str().unwrap();
        assert!(policy.contains("connect-src 'self' https://broker.example:8443;"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
