//! What a DBA watches: one function for each check. Those about the server as a whole are in src/operations.

use super::bound::Range;
use super::table::{self, Table};
use super::time::{FUTURE, SECOND};
use super::{ledger, make, readable};
use crate::error::Result;
use crate::pg::settings::health as threshold;
use crate::pg::{security, spi};
use crate::{idempotency, inventory, operations, scoring};

pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub value: String,
    /// What to do, or what it is about.
    pub detail: String,
}

/// Looks at the managed tables, or elsewhere.
type Function = fn(&[Table]) -> Result<Check>;

/// What a check costs: `Thorough` ones read all rows of something, or a schema's list of tables for each managed table.
#[derive(PartialEq, Eq)]
enum Cost {
    Cheap,
    Thorough,
}

/// Every check, in the order in which they are shown. Later rooms add theirs here, and docs/operations.md says what to do about each.
const CHECKS: [(Function, Cost); 15] = [
    (runway, Cost::Cheap),
    (oldest_claim, Cost::Thorough),
    (pending_detach, Cost::Cheap),
    (orphans, Cost::Thorough),
    (cron_success, Cost::Cheap),
    (oldest_snapshot, Cost::Cheap),
    (retention_lag, Cost::Cheap),
    (queue_lag, Cost::Thorough),
    (scoring_lag, Cost::Thorough),
    (|_| operations::seal(), Cost::Cheap),
    (|_| operations::version(), Cost::Cheap),
    (|_| operations::launcher(), Cost::Cheap),
    (|_| operations::drain_databases(), Cost::Cheap),
    (|_| operations::worker(), Cost::Cheap),
    (|_| operations::slots(), Cost::Cheap),
];

/// The managed tables that are in use, and what is wrong with those that cannot be read.
pub fn tables() -> Result<(Vec<Table>, Vec<String>)> {
    let (mut tables, mut unreadable) = (Vec::new(), Vec::new());
    for parent in ledger::parents()? {
        match table::read(parent) {
            Ok(table) => tables.extend(table.filter(|table| !table.is_unused())),
            // Its owner gave it a DEFAULT partition, for example: that must not hide how the others are.
            Err(report) => unreadable.push(report.message().to_owned()),
        }
    }
    Ok((tables, unreadable))
}

pub fn all() -> Result<Vec<Check>> {
    let (tables, unreadable) = tables()?;
    judge(&tables, &unreadable, |_| true)
}

/// Those that can be asked every few seconds.
pub fn cheap(tables: &[Table], unreadable: &[String]) -> Result<Vec<Check>> {
    judge(tables, unreadable, |cost| *cost == Cost::Cheap)
}

fn judge(tables: &[Table], unreadable: &[String], is_asked: fn(&Cost) -> bool) -> Result<Vec<Check>> {
    let asked = CHECKS.iter().filter(|(_, cost)| is_asked(cost));
    let checks = asked.map(|(check, _)| check(tables)).collect::<Result<Vec<_>>>()?;
    if unreadable.is_empty() {
        return Ok(checks);
    }
    let judged = |check: Check| {
        if check.name != "runway" {
            return check;
        }
        let (value, others) = if check.ok { ("unknown".to_owned(), None) } else { (check.value, Some(check.detail)) };
        let unreadable = format!("cannot be managed any more: {}", unreadable.join("; "));
        let detail = others.into_iter().chain([unreadable]).collect::<Vec<_>>().join("; ");
        Check { ok: false, value, detail, ..check }
    };
    Ok(checks.into_iter().map(judged).collect())
}

const NOTHING: &str = "no table is managed";
const FIND_OUT: &str =
    ", and nobody came back; find out what became of the work, then complete or release the key as that tenant";

/// The time until the last partition ends: of the table where that is first.
fn runway(tables: &[Table]) -> Result<Check> {
    let now = ledger::now();
    let mut worst: Option<(i64, bool, &Table)> = None;
    for table in tables {
        let ranges: Vec<Range> = table.ranges();
        let left = table.rule.runway(&ranges, now);
        let half = table.rule.every.length().saturating_mul(table.rule.premake) / 2;
        let ok = left >= half.min(threshold::runway() * SECOND);
        if worst.is_none_or(|(least, was_ok, _)| (ok, left) < (was_ok, least)) {
            worst = Some((left, ok, table));
        }
    }
    let (ok, value, detail) = match worst {
        None => (true, "none".to_owned(), NOTHING.to_owned()),
        Some((left, true, table)) => {
            (true, readable::span(left), format!("{} is the first to run out of partitions", table.name))
        }
        Some((0, false, table)) => (
            false,
            readable::span(0),
            format!(
                "{} has no partition for now, and inserts fail: CALL bulkhead.maintain(), then look into bulkhead.maintenance_log",
                table.name
            ),
        ),
        Some((left, false, table)) => (
            false,
            readable::span(left),
            format!(
                "{} runs out of partitions: is maintain() scheduled? CALL bulkhead.maintain(), then look into bulkhead.maintenance_log",
                table.name
            ),
        ),
    };
    Ok(Check { name: "runway", ok, value, detail })
}

/// The idempotency key whose lease ran out first, and that nobody finished, released or took over since.
fn oldest_claim(_: &[Table]) -> Result<Check> {
    let Some(overdue) = idempotency::overdue()? else {
        return Ok(Check { name: "oldest_claim", ok: true, value: "none".to_owned(), detail: String::new() });
    };
    let ok = overdue.longest <= threshold::oldest_claim() * SECOND;
    let more = if overdue.claims > 1 { format!(" and {} more", overdue.claims - 1) } else { String::new() };
    let what_to_do = if ok { "" } else { FIND_OUT };
    let detail = format!("key {} of tenant {}{more}: its lease ran out{what_to_do}", overdue.key, overdue.tenant);
    Ok(Check { name: "oldest_claim", ok, value: format!("{} ago", readable::span(overdue.longest)), detail })
}

/// Detaches that were begun with CONCURRENTLY and interrupted.
fn pending_detach(_: &[Table]) -> Result<Check> {
    let names = spi::look(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhdetachpending ORDER BY 1",
        &[],
        |row| row.get::<String>(1),
    )?;
    let detail = "ALTER TABLE ... DETACH PARTITION ... FINALIZE ends it; maintain() does that for managed tables";
    Ok(counted("pending_detach", &names, threshold::pending_detach(), detail))
}

/// Tables that look like partitions of a managed table that lost their parent.
fn orphans(tables: &[Table]) -> Result<Check> {
    let mut names = Vec::new();
    for table in tables {
        names.extend(make::orphans(table)?);
    }
    Ok(counted("orphans", &names, threshold::orphans(), "attach it to its parent again, or drop it"))
}

fn counted(name: &'static str, names: &[String], limit: i64, what_to_do: &str) -> Check {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let shown = names[..names.len().min(SHOWN)].join(", ");
    let detail = if names.is_empty() { String::new() } else { format!("{shown}{more}: {what_to_do}") };
    Check { name, ok: names.len() as i64 <= limit, value: names.len().to_string(), detail }
}

/// The last time that maintain() went through: as pg_cron has it, where it is in this database, and as the managed tables have it.
fn cron_success(tables: &[Table]) -> Result<Check> {
    // The extension's own: a view that somebody else put there would be read, and would run, with the rights of this one's owner.
    let has_cron = spi::look(
        "SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_cron'
                         WHERE d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
                           AND d.objid = to_regclass('cron.job_run_details'))",
        &[],
        |row| row.get::<bool>(1),
    )?;
    let jobs = if has_cron == [true] {
        // pg_cron keeps them all, and finds them by their number only.
        "SELECT max(d.end_time) FROM (SELECT * FROM cron.job_run_details ORDER BY runid DESC LIMIT 1000) d
          WHERE d.status = 'succeeded' AND d.command ILIKE '%bulkhead.maintain%' AND d.database = current_database()"
    } else {
        "SELECT NULL::timestamptz"
    };
    let sql = format!(
        "SELECT {} FROM (SELECT greatest(({jobs}), (SELECT max(m.last_run) FROM bulkhead.managed_partition m)) AS last) l",
        ledger::moment_column("l.last")
    );
    let last =
        security::as_extension(|| spi::look(&sql, &[], |row| row.optional::<i64>(1)))?.into_iter().next().flatten();
    let (ok, value, detail) = match last {
        _ if tables.is_empty() => (true, "none".to_owned(), NOTHING),
        None => (
            false,
            "never".to_owned(),
            "SELECT bulkhead.schedule_maintenance(), or have any scheduler CALL bulkhead.maintain()",
        ),
        Some(last) => {
            let ago = (ledger::now() - last).max(0);
            let ok = ago <= threshold::cron_success() * SECOND;
            let detail = if ok {
                ""
            } else {
                "SELECT * FROM cron.job_run_details ORDER BY start_time DESC shows why it does not run"
            };
            (ok, format!("{} ago", readable::span(ago)), detail)
        }
    };
    Ok(Check { name: "cron_success", ok, value, detail: detail.to_owned() })
}

/// The age of the oldest transaction that still sees old rows: vacuum cleans up nothing that is younger.
fn oldest_snapshot(_: &[Table]) -> Result<Check> {
    let found = security::as_extension(|| {
        spi::look(
            "SELECT (EXTRACT(epoch FROM clock_timestamp() - o.since) * 1000000)::int8, o.who FROM (
               SELECT a.xact_start, format('process %s of role %s (%s)', a.pid, coalesce(a.usename, '-'), coalesce(a.state, a.backend_type))
                 FROM pg_stat_activity a
                WHERE a.xact_start IS NOT NULL AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid()
               UNION ALL
               SELECT p.prepared, format('prepared transaction %s', p.gid) FROM pg_prepared_xacts p) o(since, who)
              ORDER BY o.since LIMIT 1",
            &[],
            |row| Ok((row.get::<i64>(1)?, row.get::<String>(2)?)),
        )
    })?;
    let (age, who) = found.into_iter().next().unwrap_or((0, String::new()));
    let ok = age <= threshold::oldest_snapshot() * SECOND;
    let detail = match ok {
        true => who,
        false => {
            format!("{who}: end it, or SELECT pg_terminate_backend(...); ROLLBACK PREPARED for a prepared transaction")
        }
    };
    Ok(Check { name: "oldest_snapshot", ok, value: readable::span(age), detail })
}

/// How long the most overdue partition should have been gone. A held one is not overdue.
fn retention_lag(tables: &[Table]) -> Result<Check> {
    let now = ledger::now();
    let mut worst: Option<(i64, &Table, &str)> = None;
    for table in tables {
        for leaf in table.leaves.iter().filter(|leaf| !leaf.held && table.rule.is_expired(&leaf.range, now)) {
            // A partition that begins at MINVALUE ends somewhere all the same.
            let lag = now.saturating_sub(table.rule.retain.after(leaf.range.upper.at));
            if worst.is_none_or(|(most, ..)| lag > most) {
                worst = Some((lag, table, &leaf.name));
            }
        }
    }
    let Some((lag, table, leaf)) = worst else {
        return Ok(Check { name: "retention_lag", ok: true, value: readable::span(0), detail: String::new() });
    };
    let why = security::as_extension(|| {
        spi::look(
            "SELECT l.action || ': ' || l.detail FROM bulkhead.maintenance_log l
              WHERE l.parent = $1 AND l.partition = $2 AND NOT l.ok ORDER BY l.id DESC LIMIT 1",
            &[table.oid.into(), leaf.into()],
            |row| row.optional::<String>(1),
        )
    })?;
    let why = why.into_iter().next().flatten().unwrap_or_else(|| "CALL bulkhead.maintain()".to_owned());
    let value = if lag == FUTURE { "long".to_owned() } else { readable::span(lag) };
    let ok = lag <= threshold::retention_lag() * SECOND;
    Ok(Check { name: "retention_lag", ok, value, detail: format!("{leaf}: {why}") })
}

/// How long the queued order waits that waits longest.
fn queue_lag(_: &[Table]) -> Result<Check> {
    let waiting = inventory::waiting()?;
    let (mut ok, mut details) = (true, Vec::new());
    if let Some((lag, relation)) = waiting.longest {
        ok = lag <= threshold::queue_lag() * SECOND;
        if !ok {
            details.push(if security::exists(relation) {
                let name = security::relation_name(relation);
                let (waits, hint) = (readable::span(lag), operations::who_drains());
                format!("an order for {name} waits for {waits}: {hint}")
            } else {
                "orders wait for a table that was dropped".to_owned()
            });
        }
    }
    if waiting.set_aside > 0 {
        details.push(format!("set aside: {}; all_poisoned_orders() says why", waiting.set_aside));
    }
    Ok(Check { name: "queue_lag", ok, value: format!("{} queued", waiting.orders), detail: details.join("; ") })
}

/// Rows that wait to be scored, and nobody scores.
fn scoring_lag(_: &[Table]) -> Result<Check> {
    let waiting = scoring::waiting()?;
    let late = |idle: Option<i64>| idle.is_none_or(|idle| idle > threshold::scoring_lag() * SECOND);
    let mut details = Vec::new();
    for table in &waiting {
        if let Some(fault) = &table.fault {
            details.push(fault.clone());
        } else if late(table.idle) {
            let since = table.idle.map_or("a week at least".to_owned(), readable::span);
            details.push(format!(
                "{} rows of {} wait, and no batch was done for {since}: is score_pending() scheduled?",
                table.rows, table.table
            ));
        }
    }
    let rows: i64 = waiting.iter().map(|table| table.rows).sum();
    Ok(Check { name: "scoring_lag", ok: details.is_empty(), value: format!("{rows} rows"), detail: details.join("; ") })
}
