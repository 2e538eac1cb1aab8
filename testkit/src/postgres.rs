//! A PostgreSQL database of the test's own.

use std::net::SocketAddr;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use url::Url;

use crate::{namespace, setting};

/// An empty database, on the server that the given setting names. It is removed when this is dropped, which
/// waits for it: keep it to the end of the test.
#[derive(Debug)]
pub struct TestDatabase {
    dsn: Url,
    server: Url,
}

impl TestDatabase {
    /// Makes a database beside the one that the setting `variable` (`DSN`, say) names.
    ///
    /// # Panics
    ///
    /// When the server is not there, or does not let the role make databases.
    pub async fn create(variable: &str) -> Self {
        let server: Url = setting(variable).parse().expect("the setting is the URL of a database");
        let name = namespace().replace('-', "_").trim_end_matches('_').to_owned();
        let mut connection = connect(&server).await;
        // Of the two templates the one that nobody can be connected to.
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        connection.execute(AssertSqlSafe(create)).await.expect("the role may make databases");
        connection.close().await.expect("the connection can be closed");
        let mut dsn = server.clone();
        dsn.set_path(&name);
        Self { dsn, server }
    }

    /// Its URL.
    pub fn dsn(&self) -> &str {
        self.dsn.as_str()
    }

    /// Its URL by way of a proxy.
    ///
    /// # Panics
    ///
    /// When the server's URL can't have another host.
    pub fn dsn_through(&self, proxy: SocketAddr) -> String {
        let mut dsn = self.dsn.clone();
        dsn.set_ip_host(proxy.ip()).expect("the URL has a host");
        dsn.set_port(Some(proxy.port())).expect("the URL has a port");
        dsn.into()
    }

    /// Where the server is, as `host:port`: for a proxy in front of it.
    ///
    /// # Panics
    ///
    /// When the server's URL has no host.
    pub fn server(&self) -> String {
        let host = self.server.host_str().expect("the URL has a host");
        format!("{host}:{}", self.server.port().unwrap_or(5432))
    }

    /// A connection of one's own, to look at or change what is in it.
    pub async fn connect(&self) -> PgConnection {
        connect(&self.dsn).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let server = self.server.clone();
        let remove = format!("DROP DATABASE {} WITH (FORCE)", self.dsn.path().trim_start_matches('/'));
        // The test's own runtime can't be waited for from inside it.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let options: sqlx::postgres::PgConnectOptions = server.as_str().parse()?;
                options.connect().await?.execute(AssertSqlSafe(remove)).await?;
                anyhow::Ok(())
            })
        });
        let result = removal.join().unwrap_or_else(|_| Err(anyhow::anyhow!("panicked")));
        if let Err(error) = result {
            eprintln!("a test's database could not be removed: {error:#}");
        }
    }
}

async fn connect(url: &Url) -> PgConnection {
    PgConnection::connect(url.as_str()).await.unwrap_or_else(|error| {
        let server = format!("{}:{}", url.host_str().unwrap_or(""), url.port().unwrap_or(5432));
        panic!("no PostgreSQL at {server} ({error}): start the servers with `dev/stack servers`, or run `make test`")
    })
}
