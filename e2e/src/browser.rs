//! A real browser without a screen: Debian's Chromium, driven over `WebDriver`.

use std::path::PathBuf;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::process::{Child, Command};

use crate::process::free_port;

/// How long the page may take to show something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with one page. Both processes end when this is dropped.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    driver_url: String,
    profile: PathBuf,
    _driver: Child,
}

/// A program that the test script names, or that is where Debian puts it.
fn program(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| format!("/usr/bin/{name}").into(), PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: apt-get install chromium chromium-driver, or `make test`",
        path.display()
    );
    path
}

impl Browser {
    /// Starts a browser with a profile of its own.
    pub async fn start() -> Self {
        let (chromium, driver) = (program("CHROMIUM", "chromium"), program("CHROMEDRIVER", "chromedriver"));
        let profile = std::env::temp_dir().join(testkit::namespace());
        let port = free_port();
        let driver = Command::new(driver).arg(format!("--port={port}")).kill_on_drop(true).spawn();
        let driver = driver.expect("chromedriver can be run");
        let driver_url = format!("http://127.0.0.1:{port}");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1000",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("written as an object above") };
        let client = eventually(PATIENCE, "a browser", || {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities.clone());
            let url = driver_url.clone();
            async move { builder.connect(&url).await }
        })
        .await;
        Self { client, driver_url, profile, _driver: driver }
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page opens");
    }

    /// The text of the one element that this CSS selector finds, once `wanted` holds of it.
    pub async fn text(&self, css: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(PATIENCE, css, || async {
            let element = self.client.find(Locator::Css(css)).await.map_err(|error| error.to_string())?;
            let text = element.text().await.map_err(|error| error.to_string())?;
            if wanted(&text) { Ok(text) } else { Err(format!("it says {text:?}")) }
        })
        .await
    }

    /// Clicks what this CSS selector finds.
    pub async fn click(&self, css: &str) {
        let element = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        element.expect(css).click().await.expect(css);
    }

    /// Replaces the text of a field, as typing does.
    pub async fn write(&self, css: &str, text: &str) {
        let field = self.client.find(Locator::Css(css)).await.expect(css);
        field.clear().await.expect(css);
        field.send_keys(text).await.expect(css);
    }

    /// The attribute of what this CSS selector finds.
    pub async fn attribute(&self, css: &str, name: &str) -> Option<String> {
        self.client.find(Locator::Css(css)).await.expect(css).attr(name).await.expect(css)
    }

    /// What the page wrote on its console, errors and violations of its security policy among it.
    pub async fn console(&self) -> Vec<String> {
        let session = self.client.session_id().await.expect("a session").unwrap_or_default();
        let url = format!("{}/session/{session}/se/log", self.driver_url);
        let answer = testkit::http::post(&url, &json!({"type": "browser"})).await;
        let lines = answer.body["value"].as_array().cloned().expect("a log");
        lines.iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Closes the browser.
    pub async fn close(self) {
        let profile = self.profile.clone();
        self.client.clone().close().await.expect("the browser closes");
        drop(self);
        // Chromium may still be writing its last files there.
        let _ = std::fs::remove_dir_all(profile);
    }
}
