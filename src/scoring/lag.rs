//! Rows that wait to be scored: what health() and bulkhead.metrics say of them.

use pgrx::prelude::*;

use super::attach;
use crate::error::Result;
use crate::pg::{lock_timeout, security, spi, subtransaction, timeout};

/// An attached table with rows that wait, or one that cannot be scored any more.
pub struct Waiting {
    pub table: String,
    pub rows: i64,
    /// Microseconds since score_pending() did a batch there; none in the last week: None.
    pub idle: Option<i64>,
    pub fault: Option<String>,
}

/// The attached tables, each with the microseconds since score_pending() did a batch there.
fn tables() -> Result<Vec<(pg_sys::Oid, Option<i64>)>> {
    security::as_extension(|| {
        spi::look(
            "SELECT s.relation::oid, (extract(epoch FROM clock_timestamp() - max(r.last_at)) * 1000000)::bigint
               FROM bulkhead.scoring s LEFT JOIN bulkhead.scoring_run r ON r.relation = s.relation
              WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = s.relation)
              GROUP BY s.relation ORDER BY s.relation::text",
            &[],
            |row| Ok((row.get::<pg_sys::Oid>(1)?, row.optional::<i64>(2)?)),
        )
    })
}

/// More rows than so many are not counted by `estimate`.
const MOST_COUNTED: usize = 10_000;

/// How long one table may take. Whoever has it locked, or code of its owner's in a domain, must not keep the others' figures back.
const MOST_MILLISECONDS_OF_A_SCRAPE: i32 = 1_000;
const MOST_MILLISECONDS: i32 = 60_000;

/// Runs the query on the table as its owner, not for long; nothing of it stays.
fn for_a_moment<T>(
    relation: pg_sys::Oid,
    milliseconds: i32,
    query: impl FnOnce() -> Result<T>,
) -> std::result::Result<T, subtransaction::Failure> {
    timeout::within(milliseconds, || {
        subtransaction::rolled_back(timeout::was_reached, || {
            lock_timeout::set(lock_timeout::MAINTENANCE);
            security::as_unforced_owner(relation, query)
        })
    })
}

/// Of every attached table whose waiting rows an index finds: how many there are, up to `MOST_COUNTED`, and the microseconds since a batch was done. What cannot be
/// read is left out: health() says why.
pub fn estimate() -> Result<Vec<(String, usize, Option<i64>)>> {
    let mut estimates = Vec::new();
    for (relation, idle) in tables()? {
        let Ok(table) = attach::attached(relation) else { continue };
        if !attach::has_index(&table)? {
            continue;
        }
        let name = security::relation_name(relation);
        let status = &table.status;
        // One query on one table, as for health(): rows are counted here.
        let sql = format!(
            "SELECT true FROM {name} t WHERE t.{} = 'pending_score'::{} LIMIT {MOST_COUNTED}",
            status.name, status.of_type
        );
        let count = || Ok(spi::look(&sql, &[], |row| row.get::<bool>(1))?.len());
        if let Ok(rows) = for_a_moment(relation, MOST_MILLISECONDS_OF_A_SCRAPE, count) {
            estimates.push((name, rows, idle));
        }
    }
    Ok(estimates)
}

/// Counts every tenant's rows, by the index that score_pending() uses where there is one.
pub fn waiting() -> Result<Vec<Waiting>> {
    let mut waiting = Vec::new();
    for (relation, idle) in tables()? {
        let name = security::relation_name(relation);
        match attach::attached(relation) {
            Ok(table) => {
                let status = &table.status;
                let sql = format!(
                    "SELECT count(*) FROM {name} t WHERE t.{} = 'pending_score'::{}",
                    status.name, status.of_type
                );
                let count = || spi::look(&sql, &[], |row| row.get::<i64>(1));
                // The status may be of a domain of the owner's, whose check fails: that is one table's fault.
                match for_a_moment(relation, MOST_MILLISECONDS, count) {
                    Ok(rows) if rows.iter().any(|rows| *rows > 0) => {
                        waiting.push(Waiting { table: name, rows: rows.into_iter().sum(), idle, fault: None });
                    }
                    Ok(_) => {}
                    Err(failure) => {
                        let fault = format!("{name}: {}", failure.message);
                        waiting.push(Waiting { table: name, rows: 0, idle, fault: Some(fault) });
                    }
                }
            }
            Err(report) => {
                waiting.push(Waiting { table: name, rows: 0, idle, fault: Some(report.message().to_owned()) });
            }
        }
    }
    Ok(waiting)
}
