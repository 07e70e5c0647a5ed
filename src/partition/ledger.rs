//! The extension's own rows: managed tables, holds, what was archived, and the log. Written as the extension, whoever calls.

use pgrx::prelude::*;

use super::span::Span;
use crate::error::{self, Result};
use crate::pg::spi::{self, Row};
use crate::pg::{hold, security, transaction};

/// A row of bulkhead.managed_partition.
#[derive(Clone, Debug)]
pub struct Managed {
    pub every: Span,
    /// None for a table of the extension's own, whose setting says it.
    pub retain: Option<Span>,
    pub premake: i32,
    /// 0 when the function is gone, or has another name.
    pub on_expire: Option<pg_sys::Oid>,
    pub leaf_key: Vec<String>,
    pub leaf_options: Vec<String>,
    /// Microseconds since 1970.
    pub last_run: Option<i64>,
    pub suspect_since: Option<i64>,
}

/// An interval's parts as three columns of type bigint, which `span` reads.
pub fn span_columns(interval: &str) -> String {
    format!(
        "(EXTRACT(year FROM {interval}) * 12 + EXTRACT(month FROM {interval}))::int8, EXTRACT(day FROM {interval})::int8,
         (EXTRACT(hour FROM {interval}) * 3600000000 + EXTRACT(minute FROM {interval}) * 60000000 + EXTRACT(microseconds FROM {interval}))::int8"
    )
}

pub fn span(row: &Row, column: usize) -> Result<Option<Span>> {
    let (months, days, micros) = (row.optional(column)?, row.optional(column + 1)?, row.optional(column + 2)?);
    Ok(months.zip(days).zip(micros).map(|((months, days), micros)| Span { months, days, micros }))
}

/// A moment as a column of type bigint.
pub fn moment_column(timestamptz: &str) -> String {
    format!("(EXTRACT(epoch FROM {timestamptz}) * 1000000)::int8")
}

pub fn find(parent: pg_sys::Oid) -> Result<Option<Managed>> {
    let sql = format!(
        "SELECT {}, {}, m.premake, CASE WHEN m.on_expire IS NOT NULL THEN
                  coalesce((SELECT p.oid FROM pg_proc p WHERE p.oid = to_regprocedure(m.on_expire) AND p.proowner = m.on_expire_owner), 0::oid) END,
                m.leaf_key, m.leaf_options, {}, {}
           FROM bulkhead.managed_partition m WHERE m.parent = $1",
        span_columns("m.every"),
        span_columns("m.retain"),
        moment_column("m.last_run"),
        moment_column("m.suspect_since"),
    );
    security::as_extension(|| {
        spi::row(&sql, &[parent.into()], |row| {
            Ok(Managed {
                every: span(&row, 1)?.unwrap_or_default(),
                retain: span(&row, 4)?,
                premake: row.get(7)?,
                on_expire: row.optional(8)?,
                leaf_key: row.optional(9)?.unwrap_or_default(),
                leaf_options: row.optional(10)?.unwrap_or_default(),
                last_run: row.optional(11)?,
                suspect_since: row.optional(12)?,
            })
        })
    })
}

/// Every managed table that is there, those of the extension first.
pub fn parents() -> Result<Vec<pg_sys::Oid>> {
    security::as_extension(|| {
        spi::rows(
            "SELECT m.parent::oid FROM bulkhead.managed_partition m JOIN pg_class c ON c.oid = m.parent
              ORDER BY m.retain IS NOT NULL, m.parent::oid",
            &[],
            |row| row.get(1),
        )
    })
}

pub fn record(
    parent: pg_sys::Oid,
    every: Interval,
    retain: Interval,
    premake: i32,
    on_expire: Option<pg_sys::Oid>,
) -> Result<()> {
    let role = security::current_role();
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.managed_partition AS m (parent, every, retain, premake, on_expire, on_expire_owner, managed_by)
             VALUES ($1, $2, $3, $4, $5::oid::regprocedure::text, (SELECT p.proowner::regrole FROM pg_proc p WHERE p.oid = $5::oid), pg_get_userbyid($6))
             ON CONFLICT (parent) DO UPDATE
               SET every = excluded.every, retain = excluded.retain, premake = excluded.premake, on_expire = excluded.on_expire,
                   on_expire_owner = excluded.on_expire_owner,
                   managed_at = excluded.managed_at, managed_by = excluded.managed_by",
            &[parent.into(), every.into(), retain.into(), premake.into(), on_expire.into(), role.into()],
        )
    })
}

/// True when there was one.
pub fn remove(parent: pg_sys::Oid) -> Result<bool> {
    security::as_extension(|| {
        spi::row(
            "DELETE FROM bulkhead.managed_partition m WHERE m.parent = $1 RETURNING true",
            &[parent.into()],
            |row| row.get::<bool>(1),
        )
    })
    .map(|removed| removed.is_some())
}

/// Begins a run for the table. `suspect`: since when the clock is in doubt.
pub fn suspect(parent: pg_sys::Oid, since: Option<i64>) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "UPDATE bulkhead.managed_partition m SET suspect_since = to_timestamp($2::float8 / 1000000) WHERE m.parent = $1",
            &[parent.into(), since.into()],
        )
    })
}

/// Ends one.
pub fn ran(parent: pg_sys::Oid) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "UPDATE bulkhead.managed_partition m SET last_run = clock_timestamp() WHERE m.parent = $1",
            &[parent.into()],
        )
    })
}

pub fn hold(partition: pg_sys::Oid, reason: &str) -> Result<()> {
    let role = security::current_role();
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.partition_hold (partition, reason, held_by) VALUES ($1, $2, pg_get_userbyid($3))
             ON CONFLICT (partition) DO UPDATE SET reason = excluded.reason, held_at = excluded.held_at, held_by = excluded.held_by",
            &[partition.into(), reason.into(), role.into()],
        )
    })
}

/// True when there was one.
pub fn release(partition: pg_sys::Oid) -> Result<bool> {
    security::as_extension(|| {
        spi::row(
            "DELETE FROM bulkhead.partition_hold h WHERE h.partition = $1 RETURNING true",
            &[partition.into()],
            |row| row.get::<bool>(1),
        )
    })
    .map(|released| released.is_some())
}

pub fn archived(partition: pg_sys::Oid) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.partition_archived (partition) VALUES ($1) ON CONFLICT (partition) DO NOTHING",
            &[partition.into()],
        )
    })
}

/// The partition is not expired any more: what is written to it from now on has to be archived as well.
pub fn archive_again(partition: pg_sys::Oid) -> Result<()> {
    security::as_extension(|| {
        spi::run("DELETE FROM bulkhead.partition_archived a WHERE a.partition = $1", &[partition.into()])
    })
}

/// After `relations` were dropped. A held partition cannot be.
pub fn forget(relations: &[pg_sys::Oid]) -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.managed_partition m WHERE m.parent OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )?;
        spi::run(
            "DELETE FROM bulkhead.partition_archived a WHERE a.partition OPERATOR(pg_catalog.=) ANY ($1)",
            &[relations.to_vec().into()],
        )
    })?;
    // Not by a query: in REPEATABLE READ it would not see a hold that was committed since.
    match hold::on(relations)? {
        None => Ok(()),
        Some((reason, role)) => Err(error::state(
            "this would drop a partition that is held",
            format!("Role \"{role}\" holds it: {reason}"),
            "SELECT * FROM bulkhead.managed_partitions shows which tables have held partitions; bulkhead.release_hold() ends a hold.",
        )),
    }
}

/// What one action came to.
#[derive(Clone, Debug)]
pub struct Entry {
    pub parent: pg_sys::Oid,
    pub partition: Option<String>,
    pub action: &'static str,
    pub ok: bool,
    pub detail: Option<String>,
    /// Microseconds.
    pub lock_wait: i64,
    pub duration: i64,
}

/// Longer texts are cut.
const DETAIL_CHARACTERS: usize = 1000;

pub fn log(entry: &Entry) -> Result<()> {
    let detail: Option<String> = entry.detail.as_ref().map(|detail| detail.chars().take(DETAIL_CHARACTERS).collect());
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.maintenance_log (parent, partition, action, ok, detail, lock_wait, duration)
             VALUES ($1, $2, $3, $4, $5, make_interval(secs => $6::float8 / 1000000), make_interval(secs => $7::float8 / 1000000))",
            &[
                entry.parent.into(),
                entry.partition.as_deref().into(),
                entry.action.into(),
                entry.ok.into(),
                detail.as_deref().into(),
                entry.lock_wait.into(),
                entry.duration.into(),
            ],
        )
    })
}

/// The log says this of the partition already, and it has not changed since.
pub fn is_logged(parent: pg_sys::Oid, partition: &str, action: &str) -> Result<bool> {
    security::as_extension(|| {
        spi::row(
            "SELECT true FROM bulkhead.maintenance_log l WHERE l.parent = $1 AND l.partition = $2 AND l.action = $3 LIMIT 1",
            &[parent.into(), partition.into(), action.into()],
            |row| row.get::<bool>(1),
        )
    })
    .map(|logged| logged.is_some())
}

/// Rows of the log that are kept.
const LOG_ROWS: i64 = 10_000;

pub fn trim() -> Result<()> {
    security::as_extension(|| {
        spi::run(
            "DELETE FROM bulkhead.maintenance_log l WHERE l.id <= (SELECT max(n.id) FROM bulkhead.maintenance_log n) - $1",
            &[LOG_ROWS.into()],
        )
    })
}

/// The server's clock, in microseconds since 1970.
pub fn now() -> i64 {
    transaction::now()
}
