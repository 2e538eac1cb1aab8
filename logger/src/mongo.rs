//! The connection to MongoDB: the driver with this service's patience.

use std::time::Duration;

use anyhow::Context as _;
use bson::raw::RawDocumentBuf;
use bson::{doc, rawdoc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection, Database};
use secrecy::ExposeSecret as _;

use crate::Config;

/// What answers and checks call it.
pub const NAME: &str = "MongoDB";
/// The collection of the entries.
pub const ENTRIES: &str = "entries";
/// The collection of the steps of every trail.
pub const STEPS: &str = "steps";
/// The collection of the dead letters.
pub const DEAD_LETTERS: &str = "dead_letters";

/// How long to look for a server that can take a call. A cut is an error after this.
const SELECTION: Duration = Duration::from_millis(1500);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a ping may take, server selection included.
const PING: Duration = Duration::from_secs(2);
/// Connections: for the inserts in flight, and for those who read.
const POOL: u32 = 8;
/// The database, where no setting names one.
const DATABASE: &str = "logs";

/// The database. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Mongo {
    database: Database,
    write_concern: WriteConcern,
}

impl Mongo {
    /// Prepares the driver. It connects when it is first used; only an address of the kind `mongodb+srv` is looked
    /// up here.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        // What the driver says about a wrong string may repeat its password.
        let mut options = ClientOptions::parse(config.mongo_url.expose_secret())
            .await
            .map_err(|error| anyhow::anyhow!("MONGO_URL: {}", describe(&error)))?;
        options.app_name.get_or_insert_with(|| "switchboard-logger".to_owned());
        options.server_selection_timeout = Some(SELECTION);
        options.connect_timeout = Some(CONNECT);
        options.max_pool_size.get_or_insert(POOL);
        // `insert` repeats a write by itself; the driver's way costs the server a record of each.
        options.retry_writes = Some(false);
        let mut write_concern = options.write_concern.clone().unwrap_or_default();
        if matches!(write_concern.w, None | Some(Acknowledgment::Nodes(0))) {
            write_concern.w = Some(Acknowledgment::Majority);
        }
        write_concern.journal = Some(true);
        let named = config.mongo_database.clone().or_else(|| options.default_database.clone());
        let client = Client::with_options(options).context("MONGO_URL")?;
        Ok(Self { database: client.database(named.as_deref().unwrap_or(DATABASE)), write_concern })
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The entries, as they are on the wire.
    pub fn entries(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(ENTRIES)
    }

    /// The steps, as they are on the wire.
    pub fn steps(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(STEPS)
    }

    /// The dead letters, as they are on the wire.
    pub fn dead_letters(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(DEAD_LETTERS)
    }

    /// How durable a write is before it is acknowledged.
    pub fn write_concern(&self) -> &WriteConcern {
        &self.write_concern
    }

    /// Whether a server answers that can take writes; `Err` says in a few words why not.
    pub async fn ping(&self) -> Result<(), String> {
        let ping = self.database.run_raw_command(rawdoc! { "ping": 1 });
        match tokio::time::timeout(PING, ping).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(format!("no answer within {PING:?}")),
        }
    }

    /// Deletes the database. For tests.
    #[doc(hidden)]
    pub async fn drop_database(&self) -> mongodb::error::Result<()> {
        self.database.run_command(doc! { "dropDatabase": 1 }).await.map(drop)
    }
}

/// An error of the driver in a few words, for a log line or a check: without addresses and documents.
pub fn describe(error: &Error) -> String {
    match &*error.kind {
        ErrorKind::ServerSelection { .. } => "no server can be reached".to_owned(),
        ErrorKind::ConnectionPoolCleared { .. } => "the connection broke".to_owned(),
        ErrorKind::Authentication { .. } => "the log-in was refused".to_owned(),
        ErrorKind::Io(error) => format!("the connection broke: {}", error.kind()),
        ErrorKind::Command(error) => format!("it answered {} ({})", error.code_name, error.code),
        ErrorKind::DnsResolve { .. } => "its name can't be looked up".to_owned(),
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        other => format!("{other:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned(),
    }
}
