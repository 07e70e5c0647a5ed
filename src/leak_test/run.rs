//! Tries the attempts and judges what came of them.

use pgrx::prelude::*;

use super::attempts::{self, Attempt, Proof, Target};
use super::probe::{self, ProbeRows, Table, TestTenants};
use super::tables::{self, MAX_ROLES, MAX_TABLES, Reader, Role};
use super::{HELD, LEAKED, Outcome, SKIPPED, act_for, under_path};
use crate::context::state;
use crate::error::Result;
use crate::pg::subtransaction::{self, Failure};
use crate::pg::{security, settings, spi, timeout};

/// How long an attempt may take, its check included.
const LIMIT_MILLISECONDS: i32 = 5_000;

pub fn all(relation: Option<pg_sys::Oid>) -> Result<Vec<Outcome>> {
    let mut tables = tables::tables(relation)?;
    let mut roles = tables::roles()?;
    let mut outcomes = Vec::new();
    let left_out = |relation, attempt: &str, detail: String| Outcome {
        relation,
        role: None,
        attempt: attempt.to_owned(),
        result: SKIPPED,
        detail: Some(detail),
    };
    if over(&tables, MAX_TABLES) {
        let next = tables.pop().map_or(pg_sys::InvalidOid, |table| table.oid);
        let detail = format!("only {MAX_TABLES} tables are tried; name this one and those after it by themselves");
        outcomes.push(left_out(next, "tables", detail));
    }
    if over(&roles, MAX_ROLES) {
        roles.pop();
        let first = tables.first().map_or(pg_sys::InvalidOid, |table| table.oid);
        outcomes.push(left_out(first, "roles", format!("only the first {MAX_ROLES} roles by name are tried")));
    }
    let path = spi::row("SELECT reset_val FROM pg_settings WHERE name = 'search_path'", &[], |row| row.get(1))?;
    let path: String = path.unwrap_or_default();
    for table in &tables {
        pgrx::check_for_interrupts!();
        outcomes.extend(attack(table, &roles, &path)?);
    }
    Ok(outcomes)
}

fn over<T>(list: &[T], limit: i64) -> bool {
    i64::try_from(list.len()).is_ok_and(|length| length > limit)
}

/// All roles on one table, with probe rows of unknown tenants or, where none can be made, with tenants that are there.
fn attack(table: &Table, roles: &[Role], path: &str) -> Result<Vec<Outcome>> {
    let never = || false;
    let with_probes = apart(never, || {
        let tenants = ProbeRows::new(path).make(table)?;
        run_attempts(table, &tenants, roles, path)
    });
    let reason = match with_probes {
        Ok(outcomes) => return Ok(outcomes),
        Err(failure) => failure.message,
    };
    let present = apart(never, || {
        act_for("''")?;
        probe::present(table)
    });
    let reason = match present {
        Ok(Some(tenants)) => {
            let outcomes = apart(never, || run_attempts(table, &tenants, roles, path));
            let mut outcomes = outcomes.map_err(|failure| crate::error::internal(failure.message))?;
            let detail = format!("no probe rows could be made, so tenants that have rows were used: {reason}");
            outcomes.push(skipped(table, None, "insert", detail));
            return Ok(outcomes);
        }
        Ok(None) => format!("no probe rows could be made, and no two tenants have rows: {reason}"),
        Err(failure) => format!("no probe rows could be made ({reason}), and no tenants be found: {}", failure.message),
    };
    Ok(vec![skipped(table, None, "probe rows", reason)])
}

/// In a transaction, as it were, of its own, of which nothing stays.
fn apart<R>(ours: impl Fn() -> bool, work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    state::as_new_transaction(|| subtransaction::rolled_back(ours, work))
}

fn skipped(table: &Table, role: Option<&Role>, attempt: &str, detail: impl Into<String>) -> Outcome {
    let role = role.map(|role| role.name.clone());
    Outcome { relation: table.oid, role, attempt: attempt.to_owned(), result: SKIPPED, detail: Some(detail.into()) }
}

/// What is tried on a table by everybody.
struct Plan {
    /// For those who have a right to the table.
    attempts: Vec<Attempt>,
    /// For everybody: the table's rows by other ways.
    readers: Vec<Attempt>,
    left_out: Vec<(String, String)>,
}

fn plan(table: &Table, tenants: &TestTenants) -> Result<Plan> {
    let merge = spi::row("SELECT current_setting('server_version_num')::integer >= 150000", &[], |row| row.get(1))?;
    let target = Target {
        table: &table.name,
        column: &table.column,
        own: &tenants.own,
        other: &tenants.other,
        merge: merge.unwrap_or(false),
        partitioned: table.partitioned,
    };
    let mut attempts = attempts::reads(&target);
    attempts.extend(attempts::writes(&target));
    // A right to a child is no right to its parent, so everybody is tried on these.
    let mut readers = Vec::new();
    for child in tables::children(table)? {
        readers.extend(attempts::child(&target, &child));
    }
    // Nothing that a client receives can be had here; it is planned as a SELECT is.
    let copy = "COPY to the client cannot run inside a function; it reads what SELECT reads";
    let mut left_out = vec![("copy".to_owned(), copy.to_owned())];
    if let Some(made) = &tenants.made {
        attempts.push(attempts::count(&target));
        attempts.push(attempts::insert("insert", made.insert_third.clone(), &made.third));
        let own = made.insert_own.as_ref();
        attempts.extend(own.map(|sql| attempts::insert("insert own", sql.clone(), &tenants.other)));
        let conflict = made.conflict.as_ref();
        attempts.extend(conflict.map(|sql| attempts::insert("insert on conflict", sql.clone(), &tenants.other)));
        for parent in tables::parents(table)? {
            readers.push(attempts::contents("parent", &parent, &parent));
        }
        for Reader { kind, name, from, volatile } in tables::readers(table)? {
            if volatile {
                left_out.push((format!("{kind} {name}"), "it is VOLATILE, and is not called unasked".to_owned()));
            } else {
                readers.push(attempts::contents(&kind, &name, &from));
            }
        }
    }
    Ok(Plan { attempts, readers, left_out })
}

fn run_attempts(table: &Table, tenants: &TestTenants, roles: &[Role], path: &str) -> Result<Vec<Outcome>> {
    let plan = plan(table, tenants)?;
    let mut outcomes = Vec::new();
    for role in roles {
        if role.superuser && !table.sealed {
            let detail = "nothing binds a superuser on a table that is not sealed";
            outcomes.push(skipped(table, Some(role), "everything", detail));
            continue;
        }
        let attacker =
            Attacker { table, tenants, role, path: if role.superuser { settings::PINNED_PATH } else { path } };
        if role.superuser
            && let Some(function) = tables::planned_function(table)?
        {
            // The planner looks at every index and constraint, and evaluates what is constant in them.
            let detail =
                format!("an index or a constraint calls {function}, which would run with a superuser's rights");
            outcomes.push(skipped(table, Some(role), "everything", detail));
            continue;
        }
        if role.superuser {
            // No trigger, view, function or operator of a user's is run with a superuser's rights.
            let reads = plan.attempts.iter().filter(|attempt| !matches!(attempt.proof, Proof::Touches(_)));
            outcomes.extend(reads.map(|attempt| attacker.attempt(attempt)));
            let detail = "code of users' would run with a superuser's rights";
            outcomes.push(skipped(table, Some(role), "writes, views and functions", detail));
            continue;
        }
        if tables::has_rights(role, table)? {
            outcomes.extend(plan.attempts.iter().map(|attempt| attacker.attempt(attempt)));
        } else {
            let (attempt, result, detail) =
                ("everything".to_owned(), HELD, Some("it has no right to the table".to_owned()));
            let (relation, role) = (table.oid, Some(role.name.clone()));
            outcomes.push(Outcome { relation, role, attempt, result, detail });
        }
        outcomes.extend(plan.readers.iter().map(|attempt| attacker.attempt(attempt)));
    }
    outcomes.extend(plan.left_out.into_iter().map(|(what, why)| skipped(table, None, &what, why)));
    Ok(outcomes)
}

/// One role on one table.
struct Attacker<'a> {
    table: &'a Table,
    tenants: &'a TestTenants,
    role: &'a Role,
    path: &'a str,
}

/// Whether it leaked; or why that is not known.
type AttemptResult = std::result::Result<bool, String>;

impl Attacker<'_> {
    fn attempt(&self, attempt: &Attempt) -> Outcome {
        pgrx::check_for_interrupts!();
        let leaked = self.judge(attempt);
        let (result, detail) = match leaked {
            Ok(false) => (HELD, None),
            Ok(true) => (LEAKED, Some(attempt.statements.join("; "))),
            Err(reason) => (SKIPPED, Some(reason)),
        };
        Outcome {
            relation: self.table.oid,
            role: Some(self.role.name.clone()),
            attempt: attempt.name.clone(),
            result,
            detail,
        }
    }

    fn judge(&self, attempt: &Attempt) -> AttemptResult {
        let before = match &attempt.proof {
            Proof::Touches(tenant) => Some(self.fingerprint(tenant).map_err(unknown)?),
            _ => None,
        };
        let ended = self.timed(|| {
            let told = self.run(attempt)?;
            match &attempt.proof {
                // Inside the attempt's own subtransaction, where what it did can be seen.
                Proof::Touches(tenant) => {
                    Ok(self.fingerprint(tenant).map(|after| Some(after) != before).map_err(unknown))
                }
                Proof::Sees => Ok(Ok(told.is_some_and(|number| number.trim() != "0"))),
                Proof::Divides => Ok(Ok(false)),
                Proof::Depends => Ok(self.without_the_other(attempt).map(|without| without != told)),
            }
        });
        match ended {
            Ok(result) => result,
            Err(failure) => refusal(&failure, &attempt.proof),
        }
    }

    fn timed<R>(&self, work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
        timeout::within(LIMIT_MILLISECONDS, || apart(timeout::was_reached, work))
    }

    /// Runs the statements as the role; what the last one says, if it is a question.
    fn run(&self, attempt: &Attempt) -> Result<Option<String>> {
        act_for(if attempt.with_tenant { &self.tenants.own } else { "''" })?;
        let as_role = || {
            let (last, first) = attempt.statements.split_last().unzip();
            for statement in first.into_iter().flatten() {
                spi::run(statement, &[])?;
            }
            match (last, &attempt.proof) {
                (Some(statement), Proof::Touches(_)) => spi::run(statement, &[]).map(|()| None),
                (Some(statement), _) => Ok(spi::row(statement, &[], |row| row.optional::<String>(1))?.flatten()),
                (None, _) => Ok(None),
            }
        };
        under_path(self.path, || security::as_role(self.role.oid, as_role))
    }

    /// What the attempt says when the other tenant's probe row is gone.
    fn without_the_other(&self, attempt: &Attempt) -> std::result::Result<Option<String>, String> {
        let Table { oid, name, column, .. } = self.table;
        let other = &self.tenants.other;
        let answer = apart(timeout::was_reached, || {
            state::as_new_transaction(|| {
                act_for(other)?;
                let delete = format!("DELETE FROM {name} WHERE {column} OPERATOR(pg_catalog.=) {other}");
                under_path(self.path, || security::as_owner(*oid, || spi::run(&delete, &[])))
            })?;
            state::as_new_transaction(|| self.run(attempt))
        });
        answer.map_err(|failure| format!("the other tenant's row could not be taken away: {}", failure.message))
    }

    /// A figure of all rows of the tenant, every version of a row being another. Not as superuser: the planner alone may call functions
    /// of the owner's.
    fn fingerprint(&self, tenant: &str) -> std::result::Result<String, Failure> {
        let Table { oid, name, column, .. } = self.table;
        apart(timeout::was_reached, || {
            act_for(tenant)?;
            let sql = format!(
                "SELECT concat(count(*), ' ', bit_xor(hashtextextended(concat_ws(' ', x.tableoid, x.ctid, x.xmin, x.xmax), 0)))
                   FROM {name} x WHERE x.{column} = {tenant}"
            );
            let figure = security::as_unforced_owner(*oid, || spi::row(&sql, &[], |row| row.get(1)));
            Ok(figure?.unwrap_or_default())
        })
    }
}

fn unknown(failure: Failure) -> String {
    format!("whether it did anything could not be looked up: {}", failure.message)
}

/// An attempt that ended with an error.
fn refusal(failure: &Failure, proof: &Proof) -> AttemptResult {
    use PgSqlErrorCode::*;
    match failure.code {
        ERRCODE_INSUFFICIENT_PRIVILEGE => Ok(false),
        // What the seal asks for.
        ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE if failure.message.ends_with("needs a bypass") => Ok(false),
        ERRCODE_DIVISION_BY_ZERO if *proof == Proof::Divides => Ok(true),
        _ if timeout::was_reached() => Err(format!("it took longer than {} s", LIMIT_MILLISECONDS / 1000)),
        _ => Err(failure.message.clone()),
    }
}
