use super::*;
use serde_json::json;

fn render(name: &str, message: Option<&str>, context: serde_json::Value) -> Result<Rendered, TemplateError> {
    let serde_json::Value::Object(context) = context else { panic!("an object") };
    let values =
        Values { message, subject: "Hi", from: "me@example.com", to: "you@example.com", context: &context };
    Templates::load().unwrap().render(name, &values)
}

fn complaint(result: Result<Rendered, TemplateError>) -> String {
    let violation = result.unwrap_err().violation();
    format!("{} {}", violation.field, violation.message)
}

#[test]
fn styles_stand_on_the_elements_and_the_expressions_are_still_there() {
    for source in SOURCES {
        assert!(!source.html.contains("<style"), "{}", source.html);
        assert!(source.html.contains("<body style=\""), "{}", source.html);
        assert!(source.html.starts_with("<!DOCTYPE html>"), "{}", source.html);
        assert!(source.html.contains("{{ subject }}") && !source.html.contains("<!-- content"));
    }
    let welcome = SOURCES.iter().find(|source| source.name == "welcome").unwrap();
    assert!(welcome.html.contains("href=\"{{ login_url | link }}\" style=\""), "{}", welcome.html);
}

#[test]
fn a_plain_message_is_the_text_and_paragraphs_of_html() {
    let rendered = render("plain", Some("Hello <Ada>,\nfirst & last\n\n\nBye"), json!({})).unwrap();
    assert_eq!(rendered.text, "Hello <Ada>,\nfirst & last\n\n\nBye");
    let body: String = rendered.html.replace(|c: char| c.is_whitespace(), " ");
    assert!(body.contains(">Hello &lt;Ada&gt;,<br> first &amp; last</p> <p style=\""), "{body}");
    assert!(body.contains(">Bye</p>"), "{body}");
}

#[test]
fn every_template_renders_with_what_it_needs() {
    let rendered =
        render("welcome", None, json!({"name": "Ada & co", "login_url": "https://x.example/?a=1&b=2"}));
    let Rendered { text, html } = rendered.unwrap();
    assert_eq!(text, "Welcome, Ada & co!\n\nYour account is ready.\n\nLog in: https://x.example/?a=1&b=2\n");
    assert!(html.contains("Welcome, Ada &amp; co!"), "{html}");
    assert!(html.contains("?a=1&amp;b=2\" style="), "{html}");

    let facts = json!([{"name": "Disk", "value": 93}, {"name": "Host", "value": "db1"}]);
    let context = json!({"title": "Disk nearly full", "facts": facts, "action_url": "https://x.example/"});
    let Rendered { text, html } = render("notification", Some("Look."), context).unwrap();
    assert_eq!(text, "Disk nearly full\n\nLook.\n\nDisk: 93\nHost: db1\n\nOpen: https://x.example/\n");
    assert!(html.contains(">Disk</dt>") && html.contains(">93</dd>") && html.contains(">Open</a>"), "{html}");
}

#[test]
fn a_template_that_there_is_not_is_answered_with_those_that_there_are() {
    let text = complaint(render("nope", None, json!({})));
    assert_eq!(text, "template is not one of notification, plain, welcome");
    assert_eq!(complaint(render("../plain", None, json!({}))), text);
}

#[test]
fn a_missing_value_is_named() {
    for context in [json!({}), json!({"name": null})] {
        let text = complaint(render("welcome", None, context));
        assert_eq!(text, "context.name is required by the template welcome");
    }
    let text = complaint(render("notification", None, json!({"title": "T", "facts": [{"name": "a"}]})));
    assert_eq!(text, "context.fact.value is required by the template notification");
    let text = complaint(render("plain", None, json!({})));
    assert_eq!(text, "message is required by the template plain");
}

#[test]
fn a_value_that_does_not_suit_is_refused() {
    for link in ["javascript:alert(1)", "data:text/html,x", "https://a b", " https://x", "//x.example"] {
        let text = complaint(render("welcome", None, json!({"name": "a", "login_url": link})));
        assert!(text.starts_with("context does not suit the template welcome: a link begins with"), "{text}");
    }
    render("notification", None, json!({"title": "T", "facts": 7})).unwrap_err();
}

#[test]
fn values_are_never_templates_nor_markup() {
    let hostile = "{{ message }}{% for x in range(10) %}</p><script>alert('x')</script>\"";
    let Rendered { text, html } = render("welcome", None, json!({"name": hostile})).unwrap();
    assert!(text.contains(hostile));
    assert!(!html.contains("<script>") && html.contains("{{ message }}{% for"), "{html}");
}

#[test]
fn what_the_mail_is_outweighs_what_the_context_says_it_is() {
    let rendered = render("plain", Some("real"), json!({"message": "forged", "from": "forged"})).unwrap();
    assert_eq!(rendered.text, "real");
    assert!(rendered.html.contains("Sent by me@example.com"));
}

#[test]
fn rendering_is_bounded() {
    let many = "a\n\n".repeat(400_000);
    assert!(matches!(render("plain", Some(&many), json!({})), Err(TemplateError::TooLarge)));
    let escaped = "\"".repeat(1024 * 1024);
    render("plain", Some(&escaped), json!({})).unwrap();
}
