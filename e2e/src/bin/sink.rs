//! The mail server of [`e2e::sink`] as a process: `PORT`, and the file `JOURNAL`.

use std::net::Ipv4Addr;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let setting = |name: &str| std::env::var(name).map_err(std::io::Error::other);
    let port: u16 = setting("PORT")?.parse().map_err(std::io::Error::other)?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    e2e::sink::serve(listener, setting("JOURNAL")?.into()).await
}
