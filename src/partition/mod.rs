//! partition: every managed table has its partitions ahead of time, and those past retention go, without anybody noticing.
//!
//! What a table lacks and what is expired is decided in files that import no server: `time`, `span`, `bound`, `name`, `due`, `lock_backoff`. `table`
//! reads a managed table, `admit` says which can be, `make` and `dress` make a partition, `policies` copies its policies, `expire` lets go of one, and `run` goes
//! through all tables step by step for maintain(), which is a procedure in sql/partition.sql; `schedule` makes that a job. `ensure` makes partitions at once,
//! `convert` says how an ordinary table becomes a partitioned one, `health` is health(), `readable` writes lengths of time. `ledger` keeps the rows of the extension's own. This file is
//! the SQL surface.

mod admit;
mod bound;
mod convert;
mod dress;
mod due;
mod ensure;
mod expire;
mod health;
mod ledger;
mod lock_backoff;
mod make;
mod name;
mod policies;
mod readable;
mod run;
mod schedule;
mod span;
mod table;
mod time;
mod watch;

use pgrx::prelude::*;

use crate::error::{self, Result, given};
use crate::pg::{client, relation_locks, scan, spi, version};
use crate::{idempotency, inventory};

pub use ensure::{ensure_ours, make_present, not_there};
pub use health::Check;
pub use ledger::forget;
pub use run::{end_transaction, is_running};
pub use watch::watch;

::pgrx::extension_sql_file!("../../sql/partition.sql", name = "partition", requires = ["observe"]);

/// How long rows of a table of the extension's own are kept.
fn retention(table: pg_sys::Oid) -> span::Span {
    let micros = if table == scan::table(c"order_verdict") { inventory::retention() } else { idempotency::retention() };
    span::Span { months: 0, days: 0, micros }
}

/// An interval argument, and its parts.
fn interval(argument: Option<Interval>, name: &str) -> Result<(Interval, span::Span)> {
    let interval = given(argument, name)?;
    let sql = format!("SELECT {}", ledger::span_columns("$1"));
    let span = spi::row(&sql, &[interval.into()], |row| ledger::span(&row, 1))?.flatten();
    Ok((interval, given(span, name)?))
}

/// `manage_partitions(parent regclass, every interval, retain interval, premake integer DEFAULT 3, on_expire regprocedure DEFAULT NULL)`:
/// from now on maintain() makes and drops the table's partitions. Makes none itself; a second call changes the rule.
///
/// `every`: months, or days and shorter. `retain`: at least as long. `premake`: 1 to 1,000 partitions ahead. `on_expire`: a function that takes a
/// regclass. Errors: 42501 not the owner; 22023 a table that cannot be managed, with the reason, or a bad value; 55000 a DEFAULT
/// partition, or on_expire for a protected table without a bypass; 25006 read-only. No lock but on the registry's row.
#[pg_extern(sql = false)]
fn manage_partitions(
    parent: Option<pg_sys::Oid>,
    every: Option<Interval>,
    retain: Option<Interval>,
    premake: Option<i32>,
    on_expire: Option<pg_sys::Oid>,
) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"manage_partitions()");
    let parent = given(parent, "parent")?;
    let (_, kind) = admit::parent(parent)?;
    let (every, every_span) = interval(every, "every")?;
    let (retain, retain_span) = interval(retain, "retain")?;
    let premake = given(premake, "premake")?;
    admit::rule(kind, every_span, retain_span, premake)?;
    if let Some(function) = on_expire {
        admit::on_expire(parent, function)?;
    }
    ledger::record(parent, every, retain, premake, on_expire)
}

/// `unmanage_partitions(parent regclass)`: ends the management; the partitions stay, and holds with them.
///
/// Errors: 42501 not the owner; 55000 not managed; 25006 read-only.
#[pg_extern(sql = false)]
fn unmanage_partitions(parent: Option<pg_sys::Oid>) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"unmanage_partitions()");
    let parent = given(parent, "parent")?;
    admit::owner(parent)?;
    if ledger::remove(parent)? {
        return Ok(());
    }
    Err(admit::not_managed(parent))
}

/// `hold_partition(partition regclass, reason text)`: neither maintain() nor DROP TABLE takes it away. A second call changes the reason.
///
/// Errors: 42501 not the owner; 22023 no reason; 55000 not a partition of a managed table; 25006 read-only. Waits for a maintain() that is about to drop it
/// (SHARE UPDATE EXCLUSIVE on the partition, until the transaction ends).
#[pg_extern(sql = false)]
fn hold_partition(partition: Option<pg_sys::Oid>, reason: Option<&str>) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"hold_partition()");
    let partition = given(partition, "partition")?;
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty()).ok_or_else(|| {
        error::argument(
            "a hold needs a reason",
            "Say who asked for it and why: 'litigation 2026-17, legal department'.",
        )
    })?;
    admit::partition_of(partition)?;
    relation_locks::relation(partition, relation_locks::Mode::ShareUpdate);
    // It may have been dropped while this waited.
    admit::partition_of(partition)?;
    ledger::hold(partition, reason)
}

/// `release_hold(partition regclass)`: ends a hold.
///
/// Errors: 42501 not the owner; 55000 not held; 25006 read-only.
#[pg_extern(sql = false)]
fn release_hold(partition: Option<pg_sys::Oid>) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"release_hold()");
    let partition = given(partition, "partition")?;
    admit::owner(partition)?;
    if ledger::release(partition)? {
        return Ok(());
    }
    Err(error::state(
        format!("{} is not held", crate::pg::security::relation_name(partition)),
        "bulkhead.hold_partition() was not called for it, or the hold was released.",
        "SELECT parent, held FROM bulkhead.managed_partitions counts the held partitions.",
    ))
}

/// `partition_plan(relation regclass, control_column name, every interval)`: the statements that turn the table into a partitioned one, in order, to be
/// run one by one outside a transaction block; comments say what a person has to look at.
///
/// Errors: 42501 not the owner; 22023 a table or column that cannot be; 55000 a name that the plan needs is taken. Changes nothing.
#[pg_extern(sql = false)]
fn partition_plan(
    relation: Option<pg_sys::Oid>,
    control_column: Option<&std::ffi::CStr>,
    every: Option<Interval>,
) -> Result<SetOfIterator<'static, String>> {
    version::require()?;
    let relation = given(relation, "relation")?;
    let column = given(control_column, "control_column")?.to_string_lossy().into_owned();
    let (_, every) = interval(every, "every")?;
    Ok(SetOfIterator::new(convert::plan(relation, &column, every)?))
}

/// `maintenance_step()`: one step of maintain().
///
/// Returns seconds to wait before the next step, NULL when there is none: nothing is left to do, or another session runs maintain() (with
/// a NOTICE). Errors: 42501 without EXECUTE on maintain(); 25006 on a standby or in a read-only transaction; 55000 inside itself.
#[pg_extern(sql = false)]
fn maintenance_step() -> Result<Option<f64>> {
    version::require()?;
    run::step()
}

/// `ensure_partitions(parent regclass)`: when the managed table has no partition for now, makes that and those ahead, in a transaction of their own
/// where the server has a process to spare (max_worker_processes), else in this one.
///
/// Errors: 42501 not the owner; 55000 not managed, or what stands in the way; 55P03 the table is being altered.
#[pg_extern(sql = false)]
fn ensure_partitions(parent: Option<pg_sys::Oid>) -> Result<()> {
    version::require()?;
    let parent = given(parent, "parent")?;
    admit::owner(parent)?;
    admit::managed(parent)?;
    ensure::ensure_managed(parent)
}

/// `schedule_maintenance(cron text DEFAULT '*/10 * * * *')`: the number of the job of pg_cron that calls maintain().
///
/// Errors: 42501 without EXECUTE on maintain(); 55000 where pg_cron is not in this database, with what to do instead; 25006 read-only; what pg_cron says of
/// a bad schedule.
#[pg_extern(sql = false)]
fn schedule_maintenance(cron: Option<&str>) -> Result<i64> {
    version::require()?;
    client::refuse_read_only(c"schedule_maintenance()");
    schedule::schedule(given(cron, "cron")?)
}

/// `health()`: one row a check. A managed table that cannot be read any more makes `runway` red, and hides no other. Takes no lock that others would wait for.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn health() -> Result<
    TableIterator<'static, (name!(check_name, String), name!(ok, bool), name!(value, String), name!(detail, String))>,
> {
    let checks = health::all()?;
    Ok(TableIterator::new(checks.into_iter().map(|check| (check.name.to_owned(), check.ok, check.value, check.detail))))
}
