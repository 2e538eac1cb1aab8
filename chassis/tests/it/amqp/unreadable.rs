//! A message that the client library can't even read: a property that is not UTF-8.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use secrecy::ExposeSecret as _;
use testkit::setting;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::consumer::Reader;
use super::rabbit::{Rabbit, through};

const MARK: &[u8] = b"not utf-8";

/// Carries one connection to the server, and spoils the mark in what the client sends.
async fn spoiler(upstream: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect(upstream).await.unwrap().into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut buffer = vec![0; 65536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            if let Some(at) = buffer[..read].windows(MARK.len()).position(|window| window == MARK) {
                buffer[at..at + MARK.len()].fill(0xff);
            }
            to_server.write_all(&buffer[..read]).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_message_that_cannot_be_read_takes_none_of_its_neighbours_with_it() {
    let rabbit = Rabbit::start().await;
    let reader = Reader::start(&rabbit).await;
    let direct = Url::parse(&setting("RABBITMQ_URL")).unwrap();
    let spoiler = spoiler(format!("{}:{}", direct.host().unwrap(), direct.port().unwrap())).await;
    let url = through(&direct, spoiler);
    let connection = Connection::connect(url.expose_secret(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let spoilt = BasicProperties::default().with_message_id(str::from_utf8(MARK).unwrap().into());
    let texts: Vec<_> = (0..60).map(|i| format!("message {i}")).collect();
    for (i, text) in texts.iter().enumerate() {
        let properties = if i == 30 { spoilt.clone() } else { BasicProperties::default() };
        let (exchange, queue) = ("".into(), rabbit.topology.log_queue.as_str().into());
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange, queue, options, text.as_bytes(), properties).await.unwrap();
    }
    let readable = texts.iter().enumerate().filter(|(i, _)| *i != 30).map(|(_, text)| text.clone());
    reader.has_read(readable).await;
    rabbit.counts(&rabbit.topology.dead_queue, 1).await;
    reader.running.stop().await;
    rabbit.counts(&rabbit.topology.log_queue, 0).await;
    rabbit.clean().await;
}
