//! Connections, and the short forms in which tests query through them.
//!
//! A [`Client`] is a tokio_postgres client with additions: everything of that is there, for typed
//! parameters, pipelining and COPY. The additions speak the simple protocol, take several statements
//! at once, see values as text, and panic with the caller's line and the server's whole error.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio_postgres::{AsyncMessage, Config, NoTls, SimpleQueryMessage};

use crate::cluster::{Cluster, Database};
use crate::expect::{Refused, full_text};

/// One session of one role.
pub struct Client {
    inner: tokio_postgres::Client,
    notices: Arc<Mutex<Vec<String>>>,
    user: String,
}

impl Cluster {
    /// How to connect over the private socket; for start-up options and the like.
    pub fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).port(self.port()).user(user).dbname(database);
        config.application_name("bulkhead test");
        config
    }
}

impl Database {
    pub fn config(&self, user: &str) -> Config {
        self.cluster.config(user, &self.name)
    }

    /// A new session of that role; a test has nothing to do without it, so a failure panics.
    pub async fn connect(&self, user: &str) -> Client {
        match self.try_connect(user).await {
            Ok(client) => client,
            Err(error) => panic!("connecting to {} as {user}: {error:#}", self.name),
        }
    }

    pub async fn try_connect(&self, user: &str) -> Result<Client> {
        Client::connect(&self.config(user)).await
    }
}

impl Client {
    /// Connects, and drives the connection in a task of the current runtime.
    pub async fn connect(config: &Config) -> Result<Self> {
        let (inner, mut connection) = config.connect(NoTls).await.context("connecting")?;
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|task| connection.poll_message(task)).await {
                if let AsyncMessage::Notice(notice) = message {
                    let text = format!("{}: {}", notice.severity(), notice.message());
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
            }
        });
        let user = config.get_user().unwrap_or_default().to_string();
        Ok(Self { inner, notices, user })
    }

    /// The role that this session logged in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The notices and warnings since the last call, as `WARNING: text`.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs statements that have to work.
    #[track_caller]
    pub fn run(&self, sql: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            self.simple(sql, at).await;
        }
    }

    /// Runs statements that may fail.
    pub async fn try_run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.inner.simple_query(sql).await.map(drop)
    }

    /// All rows, every value as text, NULL as `NULL`.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> impl Future<Output = Vec<Vec<String>>> {
        let at = Location::caller();
        async move {
            let messages = self.simple(sql, at).await;
            let mut rows = Vec::new();
            for message in messages {
                if let SimpleQueryMessage::Row(row) = message {
                    let value = |i| row.get(i).unwrap_or("NULL").to_string();
                    rows.push((0..row.len()).map(value).collect());
                }
            }
            rows
        }
    }

    /// The first column of all rows.
    #[track_caller]
    pub fn column(&self, sql: &str) -> impl Future<Output = Vec<String>> {
        let rows = self.rows(sql);
        async move { rows.await.into_iter().filter_map(|row| row.into_iter().next()).collect() }
    }

    /// The only value of the only row.
    #[track_caller]
    pub fn one(&self, sql: &str) -> impl Future<Output = String> {
        let at = Location::caller();
        let rows = self.rows(sql);
        async move {
            let mut rows = rows.await;
            match (rows.pop(), rows.is_empty()) {
                (Some(mut row), true) if row.len() == 1 => row.remove(0),
                (last, _) => panic!(
                    "{at}: expected one value, got {} rows of {} columns from\n{sql}",
                    rows.len() + usize::from(last.is_some()),
                    last.map_or(0, |row| row.len())
                ),
            }
        }
    }

    /// A statement that has to fail; what it failed with is then checked field by field.
    #[track_caller]
    pub fn refused(&self, sql: &str) -> impl Future<Output = Refused> {
        refused(&self.inner, sql)
    }

    async fn simple(&self, sql: &str, at: &Location<'_>) -> Vec<SimpleQueryMessage> {
        match self.inner.simple_query(sql).await {
            Ok(messages) => messages,
            Err(error) => panic!("{at}: as {}:\n{}from\n{sql}", self.user, full_text(&error)),
        }
    }
}

/// The same for a plain tokio_postgres client.
#[track_caller]
pub fn refused(client: &tokio_postgres::Client, sql: &str) -> impl Future<Output = Refused> {
    let at = Location::caller();
    async move { Refused::from_result(client.simple_query(sql).await, at, sql) }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}
