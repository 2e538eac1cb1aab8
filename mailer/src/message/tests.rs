use std::collections::BTreeMap;

use super::*;
use contracts::mail::Attachment;
use proptest::prelude::*;

fn payload() -> MailPayload {
    MailPayload {
        from: Some("Ada <ada@example.com>".to_owned()),
        to: vec!["you@example.com".to_owned()],
        cc: Vec::new(),
        bcc: Vec::new(),
        reply_to: None,
        subject: "Hi".to_owned(),
        message: Some("Hello".to_owned()),
        html: None,
        template: None,
        context: serde_json::Map::new(),
        attachments: Vec::new(),
    }
}

fn build(payload: MailPayload) -> Result<Message, Violations> {
    let sender = Sender::new("Switchboard", &"box@example.com".parse().unwrap());
    Message::build(Uuid::nil(), payload, &sender, &Templates::load().unwrap())
}

fn text_of(message: &Message) -> String {
    String::from_utf8(message.bytes().to_vec()).unwrap()
}

/// The headers, unfolded. Panics when one comes twice.
fn headers(message: &Message) -> BTreeMap<String, String> {
    let text = text_of(message);
    let head = text.split_once("\r\n\r\n").unwrap().0.replace("\r\n ", " ");
    let mut headers = BTreeMap::new();
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}"));
        assert!(headers.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
    }
    headers
}

#[test]
fn a_mail_has_its_headers_and_both_forms() {
    let message = build(payload()).unwrap();
    let headers = headers(&message);
    assert_eq!(headers["From"], "Ada <ada@example.com>");
    assert_eq!(headers["To"], "you@example.com");
    assert_eq!(headers["Subject"], "Hi");
    assert_eq!(headers["Message-ID"], "<00000000-0000-0000-0000-000000000000@example.com>");
    assert_eq!(headers["Message-ID"], message.message_id());
    assert!(headers["Content-Type"].starts_with("multipart/alternative"), "{headers:?}");
    let text = text_of(&message);
    let (plain, html) = (text.find("text/plain; charset=utf-8"), text.find("text/html; charset=utf-8"));
    assert!(plain.unwrap() < html.unwrap(), "{text}");
}

#[test]
fn without_a_sender_it_comes_from_the_mailers_own() {
    let message = build(MailPayload { from: None, ..payload() }).unwrap();
    assert_eq!(headers(&message)["From"], "Switchboard <box@example.com>");
    assert_eq!(message.from().to_string(), "box@example.com");
}

#[test]
fn who_gets_a_blind_copy_is_in_the_envelope_alone_and_everyone_is_there_once() {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let message = build(MailPayload {
        to: list(&["a@example.com", "B <b@example.com>"]),
        cc: list(&["c@example.com", "a@example.com"]),
        bcc: list(&["secret@example.com", "b@example.com"]),
        reply_to: Some("r@example.com".to_owned()),
        ..payload()
    })
    .unwrap();
    let places: Vec<_> =
        message.recipients().iter().map(|to| format!("{} {}", to.place, to.address)).collect();
    assert_eq!(
        places,
        ["to[0] a@example.com", "to[1] b@example.com", "cc[0] c@example.com", "bcc[0] secret@example.com"]
    );
    assert!(!text_of(&message).contains("secret") && !headers(&message).contains_key("Bcc"));
    assert_eq!(headers(&message)["Cc"], "c@example.com, a@example.com");
    assert_eq!(headers(&message)["Reply-To"], "r@example.com");
}

#[test]
fn text_beyond_ascii_is_encoded_everywhere() {
    let message = build(MailPayload {
        from: Some("Zoë Ångström <zoe@example.com>".to_owned()),
        subject: "Grüße 😀".to_owned(),
        message: Some(format!("Schöne Grüße\n{}", "x".repeat(3000))),
        attachments: vec![Attachment {
            filename: "Übersicht \"neu\".pdf".to_owned(),
            content_type: "application/pdf".to_owned(),
            content: vec![0, 255, 13, 10, 46],
        }],
        ..payload()
    })
    .unwrap();
    assert!(message.bytes().is_ascii());
    let headers = headers(&message);
    assert_eq!(headers["Subject"], "=?utf-8?b?R3LDvMOfZSDwn5iA?=");
    assert!(headers["From"].starts_with("=?utf-8?b?") && headers["From"].ends_with("<zoe@example.com>"));
    assert!(headers["Content-Type"].starts_with("multipart/mixed"));
    let text = text_of(&message);
    assert!(text.contains("filename*0*=utf-8''%C3%9Cbersicht%20%22neu%22.pdf"), "{text}");
    assert!(text.contains("\r\nAP8NCi4=\r\n"), "{text}");
    assert!(text.split("\r\n").all(|line| line.len() <= 998));
}

#[test]
fn the_first_address_beyond_ascii_is_found_wherever_it_is() {
    let first = |payload| build(payload).unwrap().first_beyond_ascii();
    let beyond = || "jürgen@example.com".to_owned();
    assert_eq!(first(payload()), None);
    assert_eq!(first(MailPayload { from: Some(beyond()), ..payload() }), Some(Place::From));
    assert_eq!(first(MailPayload { to: vec![beyond()], ..payload() }), Some(Place::To(0)));
    assert_eq!(first(MailPayload { cc: vec![beyond()], ..payload() }), Some(Place::Cc(0)));
    assert_eq!(first(MailPayload { bcc: vec![beyond()], ..payload() }), Some(Place::Bcc(0)));
    assert_eq!(first(MailPayload { reply_to: Some(beyond()), ..payload() }), Some(Place::ReplyTo));
}

#[test]
fn given_html_is_sent_as_it_is_and_gives_the_text() {
    let html = Some("<p>One &amp; <b>two</b></p>".to_owned());
    let message = build(MailPayload { html: html.clone(), message: None, ..payload() }).unwrap();
    let text = text_of(&message);
    assert!(
        text.contains("\r\n\r\nOne & two\r\n") && text.contains("\r\n\r\n<p>One &amp; <b>two</b></p>\r\n")
    );
    let both = MailPayload { html, template: Some("plain".to_owned()), ..payload() };
    assert_eq!(build(both).unwrap_err().0[0].field, "template");
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let file = |filename: &str, content_type: &str| Attachment {
        filename: filename.to_owned(),
        content_type: content_type.to_owned(),
        content: Vec::new(),
    };
    let violations = build(MailPayload {
        from: Some("a\r\nb@example.com".to_owned()),
        to: vec!["ok@example.com".to_owned(), "A\u{7} <a@example.com>".to_owned()],
        subject: "a\nBcc: x@example.com".to_owned(),
        attachments: vec![
            file("a\r\nX: y", "text/plain"),
            file("b", "text/plain\r\nX: y"),
            file("c", "nonsense"),
            file("d", "message/rfc822"),
            file("e", "Multipart/mixed; boundary=x"),
        ],
        ..payload()
    })
    .unwrap_err();
    let fields: Vec<_> = violations.0.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "from",
            "to[1]",
            "subject",
            "attachments[0].filename",
            "attachments[1].content_type",
            "attachments[2].content_type",
            "attachments[3].content_type",
            "attachments[4].content_type"
        ]
    );
}

#[test]
fn a_message_of_a_million_lines_is_made_in_no_time() {
    let started = std::time::Instant::now();
    build(MailPayload { message: Some("a\n".repeat(500_000)), ..payload() }).unwrap();
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Text with a liking for what breaks headers.
fn hostile() -> impl Strategy<Value = String> {
    let nasty = prop::sample::select(vec![
        "\r",
        "\n",
        "\r\n",
        "\0",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\"",
        "\\",
        "<",
        ">",
        ",",
        ";",
        ":",
        "@",
        "(",
        "=?",
        "?=",
        " ",
        "\t",
        "Bcc: x@y.z",
        "é",
        "😀",
        "a",
        "example.com",
        "{{",
        "}}",
        "%",
        "'",
        ".",
    ]);
    let long = "[ -~]{70,300}";
    prop_oneof![
        4 => prop::collection::vec(nasty, 0..12).prop_map(|parts| parts.concat()),
        1 => any::<String>(),
        1 => long,
    ]
}

fn hostile_mailbox() -> impl Strategy<Value = String> {
    let around = (hostile(), "[a-z\"é.]{0,6}", "[a-z.é]{0,8}");
    prop_oneof![
        hostile(),
        around.prop_map(|(name, local, domain)| format!("{name} <{local}@{domain}>")),
        hostile().prop_map(|name| format!("{name} <a@example.com>")),
        hostile().prop_map(|local| format!("{local}@example.com")),
    ]
}

/// What holds for every message that is made, whatever of.
fn check(message: &Message) {
    const KNOWN: [&str; 9] =
        ["Cc", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Reply-To", "Subject", "To"];
    for name in headers(message).keys() {
        assert!(KNOWN.contains(&name.as_str()), "a header was smuggled in: {name}");
    }
    let text = text_of(message);
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "a bare line end or a NUL: {text:?}");
    assert!(text.split("\r\n").all(|line| line.len() <= 998), "a line is too long: {text:?}");
    assert!(text.is_ascii() || message.first_beyond_ascii().is_some(), "bytes beyond ASCII: {text:?}");
    assert!(!message.from().to_string().contains(char::is_control));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_header_takes_what_does_not_belong_to_it(
        from in prop::option::of(hostile_mailbox()),
        to in prop::collection::vec(hostile_mailbox(), 1..3),
        cc in prop::collection::vec(hostile_mailbox(), 0..2),
        reply_to in prop::option::of(hostile_mailbox()),
        subject in hostile(),
        message in hostile(),
    ) {
        // All of it hostile is mostly refused; each field alone gets through more often.
        let given = MailPayload { from, to, cc, reply_to, subject, message: Some(message), ..payload() };
        let each = [
            MailPayload { from: given.from.clone(), ..payload() },
            MailPayload { to: given.to.clone(), ..payload() },
            MailPayload { cc: given.cc.clone(), ..payload() },
            MailPayload { bcc: given.cc.clone(), ..payload() },
            MailPayload { reply_to: given.reply_to.clone(), ..payload() },
            MailPayload { subject: given.subject.clone(), ..payload() },
            MailPayload { message: given.message.clone(), ..payload() },
            MailPayload { html: given.message.clone(), ..payload() },
            given,
        ];
        for payload in each {
            if let Ok(message) = build(payload) {
                check(&message);
            }
        }
    }

    #[test]
    fn no_attachment_and_no_context_makes_a_header(
        filename in hostile(),
        content_type in prop_oneof![hostile(), hostile().prop_map(|s| format!("text/plain; charset=\"{s}\""))],
        content in prop::collection::vec(any::<u8>(), 0..200),
        value in hostile(),
        key in hostile(),
    ) {
        let plain = "text/plain".to_owned();
        let attach = |filename: String, content_type: String| MailPayload {
            attachments: vec![Attachment { filename, content_type, content: content.clone() }],
            ..payload()
        };
        let context = serde_json::json!({"name": value, "login_url": value, key: value});
        let serde_json::Value::Object(context) = context else { unreachable!() };
        let welcome = Some("welcome".to_owned());
        let cases = [
            attach(filename, plain),
            attach("a.txt".to_owned(), content_type),
            MailPayload { template: welcome, context, ..payload() },
        ];
        for payload in cases {
            if let Ok(message) = build(payload) {
                check(&message);
                let part_heads = text_of(&message);
                prop_assert!(!part_heads.to_lowercase().contains("\r\nbcc:"), "{}", part_heads);
            }
        }
    }
}
