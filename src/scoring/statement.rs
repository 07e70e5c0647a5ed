//! The statements of a batch, on the attached table. Each scores and writes at once, so that rows, rules and version are of one moment.
//!
//! Of all of them $1 is the rule set and $2 the tenant, which is not looked at where there is none.

use super::attach::{Attached, Column};
use super::column;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Pending,
    /// Rows of another version than the active one.
    Stale,
    /// Every version is forgotten, so that all rows are stale.
    Forget,
}

/// Of row `t`: that it is one for this action.
pub fn waits(table: &Attached, action: Action) -> String {
    let Column { name, of_type, .. } = &table.status;
    match action {
        Action::Pending => format!("t.{name} = 'pending_score'::{of_type}"),
        _ => format!("t.{name} IN ('scored'::{of_type}, 'score_failed'::{of_type})"),
    }
}

/// The active version.
const VERSION: &str = "(bulkhead.score_row($1, NULL)).version";

/// The same, of this tenant, and for rescore() of another version.
fn conditions(table: &Attached, action: Action) -> String {
    let mut conditions = waits(table, action);
    match &table.tenant {
        Some(Column { name, of_type, .. }) => conditions.push_str(&format!(" AND t.{name} = $2::text::{of_type}")),
        None => conditions.push_str(" AND $2::text IS NOT NULL"),
    }
    if let (Action::Stale, Some(version)) = (action, &table.version) {
        // What would be written is what it is compared with.
        conditions.push_str(&format!(" AND t.{} IS DISTINCT FROM (SELECT {VERSION})", version.name));
    }
    conditions
}

/// Rows of these places: $3 are the tables of them, $4 where they lie.
const ASKED: &str = "ROWS FROM (unnest($3::oid[]), unnest($4::text[])) AS asked (part, place)";

/// What is written into row `t` whose outcome is that of `s`; that it failed; and that the row is done with: one that a trigger of the table's makes wait
/// again is not.
fn assignment(table: &Attached, action: Action) -> [String; 3] {
    let Column { name: status, of_type, .. } = &table.status;
    let (mut score, mut failed) =
        (column::cast(&table.score.of_type, "(s.outcome).score"), "(s.outcome).failed".to_owned());
    if let Some(takes) = column::takes(&table.score.of_type, "(s.outcome).score") {
        score = format!("CASE WHEN {takes} THEN {score} END");
        failed = format!("({failed} OR NOT {takes})");
    }
    if table.score.not_null {
        // A document that has none keeps what is there.
        score = format!("coalesce({score}, t.{})", table.score.name);
    }
    let mut set = format!(
        "{} = {score}, {status} = CASE WHEN {failed} THEN 'score_failed'::{of_type} ELSE 'scored'::{of_type} END",
        table.score.name
    );
    if let Some(version) = &table.version {
        set.push_str(&format!(", {} = (s.outcome).version", version.name));
    }
    [set, failed, is_done(table, action, "(s.outcome).version")]
}

fn is_done(table: &Attached, action: Action, written: &str) -> String {
    match (&table.version, action) {
        (Some(version), Action::Stale) => format!("t.{} IS NOT DISTINCT FROM {written}", version.name),
        _ => format!("t.{} <> 'pending_score'::{}", table.status.name, table.status.of_type),
    }
}

/// Picks up to `size` rows that nobody works at, scores and writes them: how many were written, how many of these failed, how many were picked.
pub fn whole(table: &Attached, action: Action, size: i32) -> String {
    let (name, conditions) = (&table.name, conditions(table, action));
    if let (Action::Forget, Some(version)) = (action, &table.version) {
        // No version is 0.
        let none = if version.not_null { "0" } else { "NULL" };
        return format!(
            "WITH written AS (UPDATE {name} t SET {0} = {none} WHERE {conditions} AND t.{0} IS DISTINCT FROM {none} AND $1::text IS NOT NULL RETURNING 1)
             SELECT count(*), 0::bigint, count(*) FROM written",
            version.name
        );
    }
    let [set, failed, done] = assignment(table, action);
    format!(
        "WITH scored AS MATERIALIZED (
           SELECT place, part, bulkhead.score_row($1, document) AS outcome
             FROM (SELECT t.ctid AS place, t.tableoid AS part, {} AS document FROM {name} t WHERE {conditions} LIMIT {size} FOR UPDATE OF t SKIP LOCKED) picked),
         written AS (
           UPDATE {name} t SET {set} FROM scored s WHERE t.ctid = s.place AND t.tableoid = s.part RETURNING {failed} AS failed, {done} AS done)
         SELECT count(*) FILTER (WHERE done), count(*) FILTER (WHERE done AND failed), (SELECT count(*) FROM scored) FROM written",
        table.document
    )
}

/// Locks up to `size` rows that nobody works at: the table and the place of each. `but`: none of those that $3 and $4 say.
pub fn pick(table: &Attached, action: Action, size: i32, but: bool) -> String {
    let but = if but {
        format!("NOT EXISTS (SELECT FROM {ASKED} WHERE asked.place::tid = t.ctid AND asked.part = t.tableoid)")
    } else {
        "$3::oid[] IS NOT NULL AND $4::text[] IS NOT NULL".to_owned()
    };
    format!(
        "SELECT t.tableoid, t.ctid::text FROM {} t WHERE {} AND $1::text IS NOT NULL AND {but} LIMIT {size} FOR UPDATE OF t SKIP LOCKED",
        table.name,
        conditions(table, action)
    )
}

/// Scores and writes the rows of these places: for each that still waits, where it is now, whether it is done with, and whether it failed.
pub fn at_places(table: &Attached, action: Action) -> String {
    let [set, failed, done] = assignment(table, action);
    let name = &table.name;
    format!(
        "WITH picked AS MATERIALIZED (
           SELECT asked.part, asked.place, {} AS document FROM {ASKED} JOIN {name} t ON t.ctid = asked.place::tid AND t.tableoid = asked.part
            WHERE {} FOR UPDATE OF t SKIP LOCKED),
         scored AS MATERIALIZED (
           SELECT part, place, bulkhead.score_row($1, document) AS outcome FROM picked),
         written AS (
           UPDATE {name} t SET {set} FROM scored s WHERE t.ctid = s.place::tid AND t.tableoid = s.part
           RETURNING s.part AS former_part, s.place AS former_place, t.tableoid AS part, t.ctid::text AS place, {failed} AS failed, {done} AS done)
         SELECT coalesce(w.part, p.part), coalesce(w.place, p.place), coalesce(w.done, false), coalesce(w.failed, false)
           FROM picked p LEFT JOIN written w ON w.former_part = p.part AND w.former_place = p.place",
        table.document,
        conditions(table, action)
    )
}

/// Marks the rows of these places as failed, without a score: the same of each.
pub fn mark(table: &Attached, action: Action) -> String {
    let Column { name: status, of_type, .. } = &table.status;
    let mut set = format!("{status} = 'score_failed'::{of_type}");
    if !table.score.not_null {
        set.push_str(&format!(", {} = NULL", table.score.name));
    }
    if let Some(version) = &table.version {
        set.push_str(&format!(", {} = {VERSION}", version.name));
    }
    format!(
        "WITH written AS (
           UPDATE {} t SET {set} FROM {ASKED} WHERE t.ctid = asked.place::tid AND t.tableoid = asked.part AND {}
           RETURNING asked.part AS former_part, asked.place AS former_place, t.tableoid AS part, t.ctid::text AS place, {} AS done)
         SELECT coalesce(w.part, asked.part), coalesce(w.place, asked.place), coalesce(w.done, false), true
           FROM {ASKED} LEFT JOIN written w ON w.former_part = asked.part AND w.former_place = asked.place",
        table.name,
        conditions(table, action),
        is_done(table, action, VERSION)
    )
}
