//! One connection of the story: statements as a person would type them, values as text, errors as errors.

use anyhow::{Context, Result, anyhow, bail};
use pg_test::{Client, Database};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::DbError;

/// A row, every value as text; NULL is empty.
pub type Row = Vec<String>;

pub struct Session {
    client: Client,
    role: &'static str,
}

impl Session {
    /// Logs in as `role`.
    pub async fn open(database: &Database, role: &'static str) -> Result<Self> {
        let client = database.try_connect(role).await.with_context(|| format!("logging in as {role}"))?;
        Ok(Self { client, role })
    }

    pub fn role(&self) -> &'static str {
        self.role
    }

    /// Runs one or more statements; the rows of all of them.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for message in self.messages(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_string()).collect());
            }
        }
        Ok(rows)
    }

    /// The only value of the only row.
    pub async fn value(&self, sql: &str) -> Result<String> {
        let mut rows = self.rows(sql).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(mut row), true) if row.len() == 1 => Ok(row.remove(0)),
            _ => bail!("one value was expected from: {sql}"),
        }
    }

    /// The same, as a number.
    pub async fn number(&self, sql: &str) -> Result<u64> {
        let value = self.value(sql).await?;
        value.parse().with_context(|| format!("{value:?} is no number, from: {sql}"))
    }

    /// How many rows the last statement read or changed.
    pub async fn changed(&self, sql: &str) -> Result<u64> {
        let messages = self.messages(sql).await?;
        let counts = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(*count),
            _ => None,
        });
        counts.last().with_context(|| format!("nothing was run by: {sql}"))
    }

    /// The error of statements that have to be refused for lack of rights (42501); anything else is a failure.
    pub async fn refused(&self, sql: &str) -> Result<DbError> {
        let result = self.client.simple_query(sql).await;
        // Whatever transaction the statements began is over for the story.
        self.rows("ROLLBACK").await?;
        let error = match result {
            Ok(_) => bail!("this was not refused (as {}):\n{sql}", self.role),
            Err(error) => error,
        };
        let refusal = error.as_db_error().filter(|db| db.code().code() == "42501").cloned();
        refusal.ok_or_else(|| anyhow!(error).context(format!("this was refused, but not with 42501:\n{sql}")))
    }

    async fn messages(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        let result = self.client.simple_query(sql).await;
        result.map_err(|error| match error.as_db_error() {
            Some(db) => anyhow!("as {}: {}: {}\n{sql}", self.role, db.code().code(), db.message()),
            None => anyhow!(error).context(sql.to_string()),
        })
    }
}
