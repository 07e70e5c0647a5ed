//! A client that connects again by itself, directly or through the pooler.

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::World;
use crate::Client;

/// How, as whom, and for whom.
#[derive(Clone)]
pub struct Place {
    pub role: &'static str,
    pub tenant: &'static str,
    pub way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The tenant for the session.
    Direct,
    /// The same, by a signed token.
    Token,
    /// Through pgbouncer in transaction mode, where there is one: the tenant in each transaction.
    Pooled,
}

pub struct Session {
    world: World,
    pub place: Place,
    client: Option<Client>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection broke, or there is no server: it may have been done, or not.
    Gone,
    /// The server said no: it was not done.
    Refused(String, String),
}

pub type Rows = Vec<Vec<String>>;

/// As long as a pause between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(40);

impl Session {
    pub fn new(world: World, place: Place) -> Self {
        Self { world, place, client: None }
    }

    /// A transaction for the tenant. It is committed when this returns rows.
    pub async fn transaction(&mut self, statements: &str) -> Result<Rows, Failure> {
        let tenant = self.place.tenant;
        match self.place.way {
            Way::Pooled => {
                self.ask(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'; {statements}; COMMIT")).await
            }
            _ => self.ask(&format!("BEGIN; {statements}; COMMIT")).await,
        }
    }

    /// Statements as they are, in one message.
    pub async fn ask(&mut self, statements: &str) -> Result<Rows, Failure> {
        if self.client.is_none() {
            self.client = self.connect().await;
        }
        let Some(client) = &self.client else {
            tokio::time::sleep(AGAIN).await;
            return Err(Failure::Gone);
        };
        match client.simple_query(statements).await {
            Ok(messages) => Ok(rows(&messages)),
            Err(error) if is_of_the_end(&error) => {
                self.client = None;
                tokio::time::sleep(AGAIN).await;
                Err(Failure::Gone)
            }
            Err(error) => {
                if client.simple_query("ROLLBACK").await.is_err() {
                    self.client = None;
                }
                let (state, message) = error.as_db_error().map_or((String::new(), error.to_string()), |error| {
                    (
                        error.code().code().to_string(),
                        format!("{} {}", error.message(), error.detail().unwrap_or_default()),
                    )
                });
                Err(Failure::Refused(state, message))
            }
        }
    }

    /// The same until there is a server that answers.
    pub async fn insist(&mut self, statements: &str) -> Result<Rows, (String, String)> {
        loop {
            match self.transaction(statements).await {
                Ok(rows) => return Ok(rows),
                Err(Failure::Gone) => {}
                Err(Failure::Refused(state, message)) => return Err((state, message)),
            }
        }
    }

    async fn connect(&self) -> Option<Client> {
        let Place { role, tenant, way } = self.place;
        let (client, context) = match (way, &self.world.pooler) {
            (Way::Pooled, Some(pooler)) => (Client::connect(&pooler.config(role, &self.world.db)).await.ok()?, None),
            (Way::Token, _) => {
                (self.world.db.try_connect(role).await.ok()?, self.world.tokens.get(tenant).map(String::as_str))
            }
            _ => (self.world.db.try_connect(role).await.ok()?, Some(tenant)),
        };
        if let Some(context) = context {
            client.simple_query(&format!("SET bulkhead.tenant_context = '{context}'")).await.ok()?;
        }
        Some(client)
    }
}

fn rows(messages: &[SimpleQueryMessage]) -> Rows {
    let mut rows = Rows::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_string()).collect());
        }
    }
    rows
}

/// The server is going, or gone, or not quite there; 08P01 and 58000 are what pgbouncer says then.
fn is_of_the_end(error: &tokio_postgres::Error) -> bool {
    const ENDS: [&str; 8] = ["57P01", "57P02", "57P03", "53300", "08P01", "08006", "08003", "58000"];
    error.is_closed() || error.as_db_error().is_none_or(|error| ENDS.contains(&error.code().code()))
}
