//! Makes a part of an attached file.

use contracts::mail::Attachment;
use contracts::validation::Violations;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Attachment as Part, Body, SinglePart};

/// The part for the attachment at `index`. Always in base64, so that it arrives to the byte.
pub(super) fn part(index: usize, file: Attachment, violations: &mut Violations) -> Option<SinglePart> {
    let before = violations.0.len();
    if file.filename.is_empty() || file.filename.chars().any(char::is_control) {
        violations.add(format!("attachments[{index}].filename"), "must be one line");
    }
    let content_type = content_type(&file.content_type)
        .map_err(|why| violations.add(format!("attachments[{index}].content_type"), why));
    let body = Body::new_with_encoding(file.content, ContentTransferEncoding::Base64)
        .map_err(|_| violations.add(format!("attachments[{index}].content"), "can't be encoded"));
    let (Ok(content_type), Ok(body), true) = (content_type, body, violations.0.len() == before) else {
        return None;
    };
    Some(Part::new(file.filename).body(body, content_type))
}

fn content_type(text: &str) -> Result<ContentType, &'static str> {
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err("must be a media type in ASCII, such as application/pdf");
    }
    let essence = text.trim_start().to_ascii_lowercase();
    if essence.starts_with("multipart/") || essence.starts_with("message/") {
        // RFC 2045, 6.4: these can't be encoded.
        return Err("can't be a message or a multipart; application/octet-stream carries any file");
    }
    ContentType::parse(text).map_err(|_| "is not a media type, such as application/pdf")
}
