//! Two sessions that run the same script: one in a plain database that holds tenant a's rows, one in a sealed database that holds b's as well.
//!
//! After each statement that makes tables both get the tenant column, and the sealed one is protected; after each that writes, canaries are
//! planted beside the new rows. All of that happens in the script's own session and transaction, so that rows which are not committed have
//! canaries, too.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use tokio_postgres::{Config, SimpleQueryMessage};

use crate::cluster::PAST_THE_SEAL;
use crate::{Client, Cluster};

const TWIN: &str = include_str!("twin.sql");
const CANARIES: &str = include_str!("canaries.sql");

/// What pg_regress tells its sessions, and no statement for ever.
const OPTIONS: &str =
    "-c timezone=PST8PDT -c datestyle=Postgres,MDY -c intervalstyle=postgres_verbose -c statement_timeout=120s";

/// For one tenant; `open`, so that canaries can be planted as b in the middle of a transaction.
const SEALED: &str = "-c bulkhead.tenant_context=a -c bulkhead.context_mode=open";

/// A bypass for one statement of a transaction block.
pub const LIFT: &str = "SET LOCAL bulkhead.bypass = 'differential'";
pub const LOWER: &str = "SET LOCAL bulkhead.bypass = ''";

/// One of the two databases.
pub struct Side {
    config: Config,
    pub client: Client,
    sealed: bool,
    /// Only the seal: no policies of protect()'s.
    bare: bool,
}

pub struct Twins {
    pub plain: Side,
    pub sealed: Side,
    /// Tables that differ and were told, or hold what cannot be the same.
    pub known: BTreeSet<String>,
}

impl Twins {
    /// Makes a database `name` with an ending on both servers, which may be one. With `bare` the script's roles meet its own policies and no other.
    pub async fn make(plain: &Cluster, sealed: &Cluster, name: &str, bare: bool) -> Result<Self> {
        let (plain_name, sealed_name) = (format!("{name}_plain"), format!("{name}_sealed"));
        let plain = side(plain, &plain_name, false, bare).await?;
        let sealed = side(sealed, &sealed_name, true, bare).await?;
        Ok(Self { plain, sealed, known: BTreeSet::new() })
    }

    /// From the next session on the sealed side is past the seal: to see that the comparison tells it.
    pub fn lift(&mut self) {
        self.sealed.config.options(format!("{OPTIONS} {SEALED} {PAST_THE_SEAL}"));
    }

    /// New sessions, as each test file has one.
    pub async fn reconnect(&mut self) -> Result<()> {
        for side in [&mut self.plain, &mut self.sealed] {
            side.client = Client::connect(&side.config).await?;
        }
        Ok(())
    }

    /// Gives new tables their column; what could not be had, by table, as the sealed side says it.
    pub async fn adopt(&self) -> Vec<String> {
        self.plain.adopt().await;
        self.sealed.adopt().await
    }

    /// Tables whose rows of tenant a are not the same on both sides.
    /// Nothing where a side could not be asked.
    pub async fn differing(&self, statement: &str) -> Option<Vec<String>> {
        let question = format!("SELECT name || ' ' || digest FROM twin.contents({})", literal(statement));
        let (plain, sealed) = (self.plain.ask(&question).await, self.sealed.ask(&question).await);
        let (plain, sealed) = (plain?, sealed?);
        // The sealed table is the larger by its canaries, and may be left out for that.
        let name = |line: &String| {
            line.rsplit_once(' ').and_then(|(rest, _)| rest.rsplit_once(' ')).map(|(name, _)| name.to_string())
        };
        let mut told = Vec::new();
        for line in &plain {
            if let Some(other) = sealed.iter().find(|other| name(other) == name(line))
                && other != line
            {
                told.push(format!("plain {line}, sealed {other}"));
            }
        }
        Some(told)
    }

    /// Takes out canaries that the statement could collide with.
    pub async fn before(&self, statement: &str, is_ddl: bool) {
        self.sealed.ask(&format!("SELECT twin.before({}, {is_ddl})", literal(statement))).await;
    }

    /// Plants beside what the statement wrote; canaries that it changed.
    pub async fn after(&self, statement: &str, may_change: bool) -> Vec<String> {
        let question = format!("SELECT twin.after({}, {may_change})", literal(statement));
        self.sealed.ask(&question).await.unwrap_or_default()
    }

    /// Tables that are protected and have canaries; protected without; not protected, with the reason.
    pub async fn coverage(&self) -> Vec<String> {
        let question = "SELECT CASE WHEN note IS NOT NULL THEN note WHEN planted > 0 THEN 'with canaries'
                                    WHEN rows IN ('', '0 ') THEN 'without rows' ELSE 'without canaries' END
                        FROM twin.adopted JOIN pg_class c ON c.oid = relation WHERE relkind = 'r'";
        self.sealed.ask(question).await.unwrap_or_default()
    }
}

impl Side {
    /// A question of the comparison itself; nothing where the script's transaction has failed. Its notices are not the script's.
    pub async fn ask(&self, sql: &str) -> Option<Vec<String>> {
        let answer = self.client.simple_query(sql).await.ok();
        self.client.notices();
        let value = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_string()),
            _ => None,
        };
        answer.map(|messages| messages.into_iter().filter_map(value).collect())
    }

    async fn adopt(&self) -> Vec<String> {
        let question = format!("SELECT twin.adopt({}, {})", self.sealed, self.bare);
        self.ask(&question).await.unwrap_or_default().into_iter().filter(|line| line.contains(": ")).collect()
    }
}

async fn side(cluster: &Cluster, name: &str, sealed: bool, bare: bool) -> Result<Side> {
    cluster.admin("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"))?;
    if sealed {
        cluster.admin(name, "CREATE EXTENSION bulkhead")?;
    }
    let mut config = cluster.config("postgres", name);
    config.options(if sealed { format!("{OPTIONS} {SEALED}") } else { OPTIONS.to_string() });
    let client = Client::connect(&config).await?;
    client.try_run(TWIN).await.context("twin.sql")?;
    if sealed {
        client.try_run(CANARIES).await.context("canaries.sql")?;
    }
    Ok(Side { config, client, sealed, bare })
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
