//! One table under protect() and under the usual policies, by turns.
//!
//! A copy of a table is not the table: where its pages lie in memory makes as much difference as a policy does. So the
//! policies change and the table stays.

use anyhow::{Context, Result};

use crate::Client;

/// Who keeps the tenants of a table apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Bulkhead's protect().
    Protect,
    /// A policy of the table's owner: rows for which this expression is true.
    Usual(&'static str),
}

/// A table and its policy in force.
pub struct Table {
    name: &'static str,
    owner: Client,
    now: Option<Policy>,
}

impl Table {
    /// A table without policies; `owner` is a session of the role that owns it.
    pub fn new(name: &'static str, owner: Client) -> Table {
        Table { name, owner, now: None }
    }

    /// Puts the policy in force, in one transaction. Sessions plan their statements anew at the next execution.
    pub async fn set(&mut self, policy: Policy) -> Result<()> {
        if self.now != Some(policy) {
            let table = self.name;
            let put_on = match policy {
                Policy::Protect => format!("SELECT bulkhead.protect('{table}');"),
                Policy::Usual(qual) => format!(
                    "CREATE POLICY usual ON {table} USING ({qual}); ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"
                ),
            };
            self.run(&put_on).await?;
            self.now = Some(policy);
        }
        Ok(())
    }

    /// Leaves the table without a policy, as it was found.
    pub async fn clear(&mut self) -> Result<()> {
        self.run("").await?;
        self.now = None;
        Ok(())
    }

    /// Takes off what is in force, then runs this.
    async fn run(&self, put_on: &str) -> Result<()> {
        let table = self.name;
        let take_off = match self.now {
            None => String::new(),
            Some(Policy::Protect) => format!("SELECT bulkhead.unprotect('{table}');"),
            Some(Policy::Usual(_)) => {
                format!("DROP POLICY usual ON {table}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;")
            }
        };
        let script = format!("BEGIN; {take_off} {put_on} COMMIT;");
        self.owner.batch_execute(&script).await.with_context(|| script.clone())
    }
}
