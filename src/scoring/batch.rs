//! One batch of score_pending() or rescore(): the rows of one tenant, in one statement (statement.rs), as the table's owner. Rows that cannot be written are found
//! and stepped over (settle.rs).
//!
//! Which tenant waits next is asked of all rows of the one table (`security::as_unforced_owner`), and nothing else is: the rows themselves are read and written
//! with that tenant as the context, so that policies, the seal and the tenant's own rule set hold as for anybody. The context, the role and every setting
//! are put back before the step returns. What is done is recorded in bulkhead.scoring_run.

use pgrx::prelude::*;

use super::attach::{self, Attached, Column};
use super::settle::{self, Call};
use super::statement::{Action, waits};
use crate::context::state;
use crate::error::{self, Result};
use crate::pg::{procedure, security, spi, version};

/// A batch's size at the most: it is one transaction, and its rows are locked.
const LARGEST: i32 = 100_000;

/// `scoring_step(relation, action, started_at, after, batch_size)`: one batch of the tenant that waits next after `after`. `batch_size` 0 ends the record.
///
/// Returns the tenant and how many rows are done with for this call; no row when nobody waits after that one. A table that is not protected has one tenant, ''. Where a tenant is in
/// force it is the only one. Errors: 42501 without EXECUTE on the procedure; 22023 a bad batch_size; 25006 read-only; 55000 not attached. A batch
/// that fails is rolled back and recorded, and the next tenant has its turn; where it fails for a row, the others are written all the same.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn scoring_step(
    relation: Option<pg_sys::Oid>,
    action: Option<&str>,
    started_at: Option<TimestampWithTimeZone>,
    after: Option<&str>,
    batch_size: Option<i32>,
) -> Result<TableIterator<'static, (name!(tenant, String), name!(picked, i64))>> {
    version::require()?;
    let (Some(relation), Some(started), Some(size)) = (relation, started_at, batch_size) else {
        return Err(error::argument("neither relation nor batch_size may be NULL", "Give both a value."));
    };
    let (action, name) = match action {
        Some("score_pending") => (Action::Pending, "score_pending"),
        Some("rescore") => (Action::Stale, "rescore"),
        Some("forget") => (Action::Forget, "rescore"),
        _ => return Err(error::argument("there is no such action", "CALL bulkhead.score_pending(...).")),
    };
    admit(name, size)?;
    if size == 0 {
        settle::forget();
        record(relation, name, started, None)?;
        return Ok(TableIterator::new(Vec::new()));
    }
    let table = attach::attached(relation)?;
    if action != Action::Pending && table.version.is_none() {
        return Err(error::state(
            format!("{} has no version column", table.name),
            "Which rows are stale is told by the version that they were scored by.",
            "Add an integer column, and call bulkhead.attach_scoring() with its name as version_column.",
        ));
    }
    let Some(tenant) = next_tenant(&table, action, after)? else { return Ok(TableIterator::new(Vec::new())) };
    // A deferred trigger would run at the commit, as whoever calls; the server refuses that in a restricted operation.
    spi::kept_run("SET CONSTRAINTS ALL IMMEDIATE", &[])?;
    let call = Call { table: &table, action, tenant: &tenant, size, started };
    let done = settle::batch(&call);
    let progress = done.scored + done.failed + done.left;
    record(relation, name, started, Some(done))?;
    Ok(TableIterator::new(vec![(tenant, progress)]))
}

/// The privilege is EXECUTE on the procedure.
fn admit(name: &str, size: i32) -> Result<()> {
    if !procedure::may_execute(name)? {
        return Err(error::denied(
            format!("permission denied for procedure bulkhead.{name}"),
            "It acts for all tenants, as the owner of the attached table.",
            format!("GRANT EXECUTE ON PROCEDURE bulkhead.{name} TO the role that runs it."),
        ));
    }
    if !(0..=LARGEST).contains(&size) {
        return Err(error::argument(
            format!("batch_size must be 1 to {LARGEST}, and is {size}"),
            "A batch is one transaction that locks its rows: 1000 is a good size.",
        ));
    }
    let procedure = format!("bulkhead.{name}");
    let hint = "Call it on the primary, in a session whose transactions are not read-only.";
    procedure::refuse_read_only(&procedure, hint)?;
    procedure::refuse_old_snapshot(&procedure, "It is REPEATABLE READ or SERIALIZABLE.")
}

fn next_tenant(table: &Attached, action: Action, after: Option<&str>) -> Result<Option<String>> {
    let Some(Column { name, of_type, .. }) = &table.tenant else {
        return Ok(after.is_none().then(String::new));
    };
    let in_force = state::with_tenant(|tenant| String::from_utf8_lossy(tenant.id()).into_owned());
    if !in_force.is_empty() {
        return Ok(after.is_none().then_some(in_force));
    }
    // One table, no subquery: that is all that may see every tenant.
    let behind = if after.is_some() { format!("AND t.{name} > $1::{of_type}") } else { String::new() };
    let sql = format!(
        "SELECT t.{name}::text FROM {} t WHERE {} {behind} ORDER BY t.{name} LIMIT 1",
        table.name,
        waits(table, action)
    );
    let arguments: Vec<_> = after.map(|after| after.to_owned().into()).into_iter().collect();
    security::as_unforced_owner(table.oid, || spi::kept_row(&sql, &arguments, |row| row.get::<String>(1)))
}

/// None ends the record of a call.
fn record(
    relation: pg_sys::Oid,
    action: &str,
    started: TimestampWithTimeZone,
    done: Option<settle::Done>,
) -> Result<()> {
    security::as_extension(|| {
        let Some(done) = done else {
            spi::run(
                "UPDATE bulkhead.scoring_run SET ended_at = clock_timestamp()
                  WHERE relation = $1 AND worker = pg_backend_pid() AND started_at = $2",
                &[relation.into(), started.into()],
            )?;
            return spi::run(
                "DELETE FROM bulkhead.scoring_run WHERE relation = $1 AND last_at < now() - interval '7 days'",
                &[relation.into()],
            );
        };
        spi::kept_run(
            "INSERT INTO bulkhead.scoring_run AS r (relation, worker, action, started_at, last_at, batches, scored, failed, last_error)
             VALUES ($1, pg_backend_pid(), $2, $3, clock_timestamp(), 1, $4, $5, $6)
             ON CONFLICT (relation, worker, started_at) DO UPDATE
               SET last_at = EXCLUDED.last_at, batches = r.batches + 1, scored = r.scored + EXCLUDED.scored,
                   failed = r.failed + EXCLUDED.failed, last_error = coalesce(EXCLUDED.last_error, r.last_error)",
            &[
                relation.into(),
                action.to_owned().into(),
                started.into(),
                done.scored.into(),
                done.failed.into(),
                done.error.into(),
            ],
        )
    })
}
