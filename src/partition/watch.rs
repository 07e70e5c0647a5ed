//! Managed tables as numbers, for bulkhead.metrics: from catalogs and statistics, without a look at a row or a lock on a partition.

use std::collections::HashMap;

use pgrx::prelude::*;

use super::health::{self, Check};
use super::ledger;
use super::table::Table;
use super::time::{FUTURE, PAST, SECOND};
use crate::error::Result;
use crate::pg::{security, spi};

/// Lengths of time are in seconds.
pub struct Watched {
    /// `schema.name`, quoted.
    pub table: String,
    pub partitions: usize,
    pub held: usize,
    /// Until the last partition without a gap ends; None where that is never.
    pub runway: Option<f64>,
    /// Since the oldest partition began; None without one, and for one that begins at MINVALUE.
    pub oldest: Option<f64>,
    /// Since the most overdue partition should have been gone.
    pub overdue: f64,
    /// Since maintain() went through the table; None where it never did.
    pub last_run: Option<f64>,
    /// What maintain() could not do in the last hour.
    pub failures: f64,
    /// As the server's statistics have them.
    pub rows: f64,
    pub bytes: f64,
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / SECOND as f64
}

/// Every managed table that is in use, and the checks of health() that cost little.
pub fn watch() -> Result<(Vec<Watched>, Vec<Check>)> {
    let (tables, unreadable) = health::tables()?;
    let (failures, sizes) = (failures()?, sizes(&tables)?);
    let watched = tables.iter().map(|table| watched(table, &failures, &sizes)).collect();
    Ok((watched, health::cheap(&tables, &unreadable)?))
}

fn watched(table: &Table, failures: &HashMap<u32, f64>, sizes: &HashMap<u32, (f64, f64)>) -> Watched {
    let now = ledger::now();
    let ranges = table.ranges();
    let runway = table.rule.runway(&ranges, now);
    let begin = table.leaves.iter().map(|leaf| leaf.range.lower.at).min().filter(|begin| *begin != PAST);
    let expired = table.leaves.iter().filter(|leaf| !leaf.held && table.rule.is_expired(&leaf.range, now));
    let overdue = expired.map(|leaf| now.saturating_sub(table.rule.retain.after(leaf.range.upper.at))).max();
    let (rows, bytes) = sizes.get(&table.oid.to_u32()).copied().unwrap_or_default();
    Watched {
        table: table.name.clone(),
        partitions: table.leaves.len(),
        held: table.leaves.iter().filter(|leaf| leaf.held).count(),
        runway: (runway != FUTURE).then(|| seconds(runway)),
        oldest: begin.map(|begin| seconds(now.saturating_sub(begin).max(0))),
        overdue: seconds(overdue.unwrap_or(0)),
        last_run: table.managed.last_run.map(|last| seconds((now - last).max(0))),
        failures: failures.get(&table.oid.to_u32()).copied().unwrap_or(0.0),
        rows,
        bytes,
    }
}

/// Rows of the log by table. It is short: maintain() keeps the last 10,000.
fn failures() -> Result<HashMap<u32, f64>> {
    let counts = security::as_extension(|| {
        spi::look(
            "SELECT l.parent::oid, count(*)::float8 FROM bulkhead.maintenance_log l
              WHERE NOT l.ok AND l.at > clock_timestamp() - interval '1 hour' GROUP BY l.parent",
            &[],
            |row| Ok((row.get::<pg_sys::Oid>(1)?.to_u32(), row.get(2)?)),
        )
    })?;
    Ok(counts.into_iter().collect())
}

/// Rows and bytes of all partitions of each table: no size function, which would wait for whoever has a partition locked.
fn sizes(tables: &[Table]) -> Result<HashMap<u32, (f64, f64)>> {
    let parents: Vec<pg_sys::Oid> = tables.iter().map(|table| table.oid).collect();
    let sizes = spi::look(
        "SELECT i.inhparent, sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0))::float8,
                sum(c.relpages::float8 + coalesce(t.relpages, 0) + coalesce(x.pages, 0)) * current_setting('block_size')::float8
           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
           LEFT JOIN LATERAL (SELECT sum(n.relpages)::float8 AS pages FROM pg_index d JOIN pg_class n ON n.oid = d.indexrelid
                               WHERE d.indrelid = c.oid) x ON true
          WHERE i.inhparent = ANY ($1) GROUP BY i.inhparent",
        &[parents.into()],
        |row| Ok((row.get::<pg_sys::Oid>(1)?.to_u32(), (row.get(2)?, row.get(3)?))),
    )?;
    Ok(sizes.into_iter().collect())
}
