//! What is published: CloudEvents 1.0 in the structured JSON form, with the distributed-tracing extension.
//!
//! Sources: the CloudEvents specification 1.0.2, its JSON event format, and its Distributed Tracing extension.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The content type of a structured event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent<T> {
    /// Always `1.0`.
    pub specversion: SpecVersion,
    /// The id of the event: of the action, where the event is what asks for it.
    pub id: Uuid,
    /// Who published it: `switchboard/broker`.
    pub source: String,
    /// What happened, and the routing key that it is published with: `log.info`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The action that it tells of, where its own id is another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<Uuid>,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// Always JSON.
    pub datacontenttype: String,
    /// The W3C trace context of the request that caused it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// The `X-Request-Id` of the request that caused it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requestid: Option<String>,
    /// The event itself.
    pub data: T,
}

/// The one version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecVersion {
    /// CloudEvents 1.0.
    #[serde(rename = "1.0")]
    V1,
}

impl<T> CloudEvent<T> {
    /// An event that happened at `time`.
    pub fn new(id: Uuid, source: &str, kind: impl Into<String>, time: DateTime<Utc>, data: T) -> Self {
        Self {
            specversion: SpecVersion::V1,
            id,
            source: source.to_owned(),
            kind: kind.into(),
            subject: None,
            time,
            datacontenttype: "application/json".to_owned(),
            traceparent: None,
            requestid: None,
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use serde_json::json;

    #[test]
    fn wire_format() {
        let time = Utc.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        let mut event =
            CloudEvent::new(Uuid::nil(), "switchboard/broker", "log.info", time, json!({"name": "n"}));
        event.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        insta::assert_json_snapshot!(event, @r#"
        {
          "specversion": "1.0",
          "id": "00000000-0000-0000-0000-000000000000",
          "source": "switchboard/broker",
          "type": "log.info",
          "time": "2026-01-02T03:04:05Z",
          "datacontenttype": "application/json",
          "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
          "data": {
            "name": "n"
          }
        }
        "#);
    }

    #[test]
    fn another_version_is_refused() {
        let event = json!({"specversion": "0.3", "id": Uuid::nil(), "source": "s", "type": "t",
            "time": "2026-01-02T03:04:05Z", "datacontenttype": "application/json", "data": 1});
        assert!(serde_json::from_value::<CloudEvent<u8>>(event).is_err());
    }
}
