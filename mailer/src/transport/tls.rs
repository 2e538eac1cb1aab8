//! Encryption: TLS from the first byte, and STARTTLS (RFC 3207).

use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::SendError;
use super::wire::Wire;

/// The longest answer that is read before the encryption: far beyond what a greeting or an EHLO answer takes.
const ANSWER_LIMIT: usize = 16 * 1024;

/// How to encrypt, and who has to be at the other end.
pub(super) struct Tls {
    connector: TlsConnector,
    server: ServerName<'static>,
}

impl Tls {
    /// For the server called `host`, which must show a certificate of a public authority or of one in `ca`,
    /// which is PEM text.
    pub(super) fn new(host: &str, ca: Option<&str>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = ca {
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.context("MAIL_TLS_CA is not PEM text")?;
                roots.add(certificate).context("MAIL_TLS_CA holds something that is no certificate")?;
            }
            anyhow::ensure!(roots.len() > before, "MAIL_TLS_CA holds no certificate in PEM text");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerName::try_from(host.to_owned())
            .with_context(|| format!("MAIL_HOST `{host}` can't be the name of a certificate"))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server })
    }

    /// Encrypts what goes over the wire from now on.
    pub(super) async fn handshake(&self, wire: Wire) -> Result<TlsStream<Wire>, SendError> {
        let shaken = self.connector.connect(self.server.clone(), wire).await;
        shaken.map_err(|error| SendError::Unreachable(format!("no TLS: {error}")))
    }
}

/// Speaks SMTP up to the answer to STARTTLS.
///
/// Nothing is read beyond that answer's last byte. Whatever an attacker has put behind it, to be taken for
/// the first words of the encrypted server, goes into the handshake and breaks it.
pub(super) async fn ask_for_tls(wire: &mut Wire, hello: &ClientId) -> Result<(), SendError> {
    expect(wire, "220").await?;
    say(wire, &format!("EHLO {hello}\r\n")).await?;
    let offers = expect(wire, "250").await?;
    if !offers.lines().any(|line| line.get(4..).is_some_and(|o| o.trim().eq_ignore_ascii_case("STARTTLS"))) {
        return Err(SendError::Unreachable("it offers no STARTTLS (MAIL_ENCRYPTION)".to_owned()));
    }
    say(wire, "STARTTLS\r\n").await?;
    expect(wire, "220").await.map(drop)
}

async fn say(wire: &mut Wire, command: &str) -> Result<(), SendError> {
    wire.write_all(command.as_bytes()).await.map_err(|error| broke_off(&error))
}

/// Reads an answer, to the byte, and checks its code.
async fn expect(wire: &mut Wire, code: &str) -> Result<String, SendError> {
    let mut answer = Vec::new();
    let mut line = 0;
    while answer.len() < ANSWER_LIMIT {
        // A byte at a time; a connection costs some two hundred of them, once.
        answer.push(wire.read_u8().await.map_err(|error| broke_off(&error))?);
        if !answer.ends_with(b"\n") {
            continue;
        }
        if answer.get(line + 3) != Some(&b'-') {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            return if answer[..].lines().all(|line| line.starts_with(code)) {
                Ok(answer)
            } else {
                Err(SendError::Unreachable(format!("it wants no TLS: {}", answer.escape_debug())))
            };
        }
        line = answer.len();
    }
    Err(SendError::Nonsense { why: "an answer without an end".to_owned(), handed_over: false })
}

fn broke_off(error: &io::Error) -> SendError {
    SendError::Unreachable(format!("it broke off before the encryption: {error}"))
}
