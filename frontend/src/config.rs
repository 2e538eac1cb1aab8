//! The settings of the console.

use std::num::NonZeroU16;

use chassis::service::Settings;
use chassis::settings::Common;
use clap::Parser;
use url::Url;

/// The test console: a page that sends requests to the broker and shows what came back.
#[derive(Clone, Debug, Parser)]
#[command(name = "frontend", version)]
pub struct Config {
    /// What every service can be told.
    #[command(flatten)]
    pub common: Common,

    /// The port of the console.
    #[arg(long, env = "PORT", value_name = "8081", default_value = "8081")]
    pub port: NonZeroU16,

    /// The broker as the browser of the person at the console reaches it. The broker must name this
    /// console's address in its `CORS_ALLOWED_ORIGINS`.
    #[arg(long, env = "BROKER_URL", value_name = "http://localhost:8080", default_value = "http://localhost:8080", value_parser = parse_web_address)]
    pub broker_url: Url,

    /// The page of the mail catcher as the browser reaches it, for the console's link to it.
    #[arg(long, env = "MAIL_PAGE_URL", value_name = "http://localhost:8025", default_value = "http://localhost:8025", value_parser = parse_web_address)]
    pub mail_page_url: Url,
}

impl Settings for Config {
    fn common(&self) -> &Common {
        &self.common
    }

    fn port(&self) -> u16 {
        self.port.get()
    }
}

/// Reads an `http` or `https` address without a user, a password, a query or a fragment: everyone who opens
/// the page is told it.
fn parse_web_address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error: url::ParseError| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password, as the page shows it to everyone".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its host or its path".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_browser_can_not_use_is_refused() {
        for bad in ["", "localhost:8080", "ftp://a", "http://u:p@a", "http://a/?q", "http://a/#f", "http://"]
        {
            assert!(parse_web_address(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_web_address("https://a.example/api").unwrap().as_str(), "https://a.example/api");
    }
}
