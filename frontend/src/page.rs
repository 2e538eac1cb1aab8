//! `assets/index.html` with the settings written into it.

use bytes::Bytes;
use thiserror::Error;

use crate::assets::{Asset, Assets, UnknownType};
use crate::config::Config;

const FILE: &str = "index.html";

/// Why there is no page: a mistake in the build.
#[derive(Debug, Error)]
pub enum PageError {
    /// The file is not in the binary.
    #[error("the page {FILE} is not among the assets")]
    Missing,
    /// The file is not text.
    #[error("the page {FILE} is not UTF-8")]
    NotText(#[from] std::str::Utf8Error),
    /// The file has no known type.
    #[error(transparent)]
    UnknownType(#[from] UnknownType),
}

/// Writes the addresses of the broker and of the mail page where the template has `{{…}}`, and the version of
/// the assets into their paths.
pub fn render(assets: &Assets, config: &Config) -> Result<Asset, PageError> {
    let file = assets.get(FILE).ok_or(PageError::Missing)?;
    let address = |url: &url::Url| escape(url.as_str().trim_end_matches('/'));
    let text = std::str::from_utf8(&file.content)?
        .replace("\"/assets/", &format!("\"/assets/{}/", assets.version()))
        .replace("{{broker_url}}", &address(&config.broker_url))
        .replace("{{mail_page_url}}", &address(&config.mail_page_url));
    Ok(Asset::new(FILE, Bytes::from(text))?)
}

/// Text as the value of a quoted attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_settings_are_in_the_page_and_can_not_break_out_of_it() {
        let config =
            Config::try_parse_from(["frontend", "--broker-url=http://b.example/a&b'\"<x>/", "--port=1"])
                .unwrap();
        let page = render(&Assets::embedded().unwrap(), &config).unwrap();
        let page = std::str::from_utf8(&page.content).unwrap();
        assert!(page.contains(r#"content="http://b.example/a&amp;b'%22%3Cx%3E""#), "{page}");
        assert!(!page.contains("{{"), "{page}");
        assert_eq!(escape("&\"<>"), "&amp;&quot;&lt;&gt;");
    }
}
