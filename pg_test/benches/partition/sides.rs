//! Who maintains the table, and how: in each turn one partition more ahead, and the oldest less.

use anyhow::{Context, Result};
use pg_test::{Client, Database};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Nobody,
    Maintain,
    Plain,
    Partman,
}

/// Minutes before the present that have a partition at the start.
pub const PAST: u32 = 60;
const AHEAD: u32 = 3;
/// Rows of each minute of the past.
const ROWS: u32 = 1_000;

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Nobody => "no maintenance",
            Side::Maintain => "maintain()",
            Side::Plain => "CREATE … PARTITION OF, DROP TABLE",
            Side::Partman => "pg_partman's run_maintenance()",
        }
    }

    /// A table with its partitions and some rows in each.
    pub async fn make(self, database: &Database, table: &str) -> Result<()> {
        database.admin(&format!(
            "SET ROLE owner;
             CREATE TABLE {table} (at timestamptz NOT NULL, tenant_id uuid NOT NULL, what text) PARTITION BY RANGE (at);
             CREATE INDEX ON {table} (tenant_id, at);"
        ))?;
        let ahead = match self {
            // These make what is ahead themselves.
            Side::Partman => None,
            Side::Maintain => Some(-1),
            Side::Nobody | Side::Plain => Some(i64::from(AHEAD)),
        };
        if let Some(ahead) = ahead {
            database.admin(&format!("SET ROLE owner; {}", partitions(table, -i64::from(PAST), ahead)))?;
        }
        match self {
            Side::Nobody | Side::Plain => {}
            Side::Maintain => {
                database.admin(&format!(
                    "SET ROLE owner; SELECT bulkhead.manage_partitions('{table}', '1 minute', '{PAST} minutes', {AHEAD}); RESET ROLE;
                     CALL bulkhead.maintain();"
                ))?;
            }
            Side::Partman => {
                database.admin(&format!(
                    "SELECT partman.create_parent('public.{table}', 'at', 'native', '1 minute', p_premake := {AHEAD}, p_jobmon := false,
                                                  p_start_partition := (date_trunc('minute', now()) - interval '{PAST} minutes')::text);
                     UPDATE partman.part_config SET retention = '{PAST} minutes', retention_keep_table = false, infinite_time_partitions = true
                      WHERE parent_table = 'public.{table}';
                     SELECT partman.run_maintenance('public.{table}', p_analyze := false, p_jobmon := false);"
                ))?;
            }
        }
        database
            .admin(&format!(
                "INSERT INTO {table} SELECT date_trunc('minute', now()) - m * interval '1 minute', gen_random_uuid(), 'login'
                   FROM generate_series(0, {PAST} - 1) AS m, generate_series(1, {ROWS});
                 VACUUM (ANALYZE) {table};"
            ))
            .map(drop)
    }

    /// One turn of maintenance; the first is turn 1.
    pub async fn turn(self, session: &Client, table: &str, turn: u32) -> Result<()> {
        let (retain, ahead) = (PAST - turn, AHEAD + turn);
        let script = match self {
            Side::Nobody => return Ok(()),
            Side::Maintain => {
                let rule =
                    format!("SELECT bulkhead.manage_partitions('{table}', '1 minute', '{retain} minutes', {ahead})");
                session.batch_execute(&rule).await.context(rule)?;
                "CALL bulkhead.maintain()".to_string()
            }
            Side::Plain => {
                // The one after the newest, then the oldest: each in a transaction of its own, as a careful person does it.
                let row = session
                    .query_one(
                        &format!(
                            "SELECT min(inhrelid::regclass::text), max(inhrelid::regclass::text), count(*)::text
                               FROM pg_inherits WHERE inhparent = '{table}'::regclass"
                        ),
                        &[],
                    )
                    .await?;
                let (oldest, newest): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                let last = newest.strip_prefix(&format!("{table}_p")).context("a partition's name")?.to_string();
                let make = format!(
                    "DO $$ DECLARE lower timestamptz := to_timestamp('{last}', 'YYYYMMDDHH24MI') + interval '1 minute'; BEGIN
                       EXECUTE format('CREATE TABLE {table}_p%s PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)',
                                      to_char(lower, 'YYYYMMDDHH24MI'), lower, lower + interval '1 minute');
                     END $$"
                );
                session.batch_execute(&make).await.context(make)?;
                format!("DROP TABLE {oldest}")
            }
            Side::Partman => {
                let rule = format!(
                    "UPDATE partman.part_config SET retention = '{retain} minutes', premake = {ahead} WHERE parent_table = 'public.{table}'"
                );
                session.batch_execute(&rule).await.context(rule)?;
                format!("SELECT partman.run_maintenance('public.{table}', p_analyze := false, p_jobmon := false)")
            }
        };
        session.batch_execute(&script).await.context(script)
    }

    /// Takes the table out of the side's books.
    pub fn forget(self, database: &Database, table: &str) -> Result<()> {
        match self {
            Side::Nobody | Side::Plain => {}
            Side::Maintain => {
                database.admin(&format!("SELECT bulkhead.unmanage_partitions('{table}')"))?;
            }
            Side::Partman => {
                database.admin(&format!("DELETE FROM partman.part_config WHERE parent_table = 'public.{table}'"))?;
            }
        }
        Ok(())
    }
}

/// A partition for each minute from one to another, relative to the present one.
fn partitions(table: &str, from: i64, to: i64) -> String {
    format!(
        "DO $$ DECLARE lower timestamptz; BEGIN
           FOR n IN {from}..{to} LOOP
             lower := date_trunc('minute', now()) + n * interval '1 minute';
             EXECUTE format('CREATE TABLE {table}_p%s PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)',
                            to_char(lower, 'YYYYMMDDHH24MI'), lower, lower + interval '1 minute');
           END LOOP; END $$;"
    )
}
