//! operations: what is watched of all rooms. The page for whoever is on call is docs/operations.md.
//!
//! health() is in src/partition/health.rs, where its first checks came from; those about the server as a whole are here (checks.rs), and the metrics
//! (metrics.rs). Counters are in src/pg/counters.rs.

mod checks;
mod metrics;

use pgrx::JsonB;
use pgrx::prelude::*;

use crate::error::Result;

pub use checks::{drain_databases, launcher, seal, slots, version, who_drains, worker};

::pgrx::extension_sql_file!("../../sql/operations.sql", name = "operations", requires = ["inventory"]);

/// `read_metrics()`: what bulkhead.metrics shows.
///
/// Values are finite; lengths of time in seconds, sizes in bytes. Takes ACCESS SHARE on catalogs and scored tables, and ROW EXCLUSIVE on the queue's tables.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn read_metrics()
-> Result<TableIterator<'static, (name!(name, String), name!(labels, JsonB), name!(value, f64), name!(help, String))>> {
    let samples = metrics::all()?;
    Ok(TableIterator::new(
        samples
            .into_iter()
            .map(|sample| (sample.name.to_owned(), JsonB(sample.labels), sample.value, sample.help.to_owned())),
    ))
}
