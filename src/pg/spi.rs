//! Statements through SPI: parametrised, with errors as reports. Never used inside a hook. What has to run without pgrx's guard is in prepared.rs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{self, OwnedPreparedStatement, SpiHeapTupleData};

use super::cell::PerBackend;
use super::security;
use crate::error::{self, Result};

/// A row of a result, read by column position from 1.
pub struct Row<'a>(SpiHeapTupleData<'a>);

impl Row<'_> {
    /// The value of a column that is never NULL.
    pub fn get<T: IntoDatum + FromDatum>(&self, column: usize) -> Result<T> {
        self.optional(column)?.ok_or_else(|| error::internal(format!("column {column} of a catalog query is NULL")))
    }

    pub fn optional<T: IntoDatum + FromDatum>(&self, column: usize) -> Result<Option<T>> {
        self.0.get(column).map_err(failed)
    }
}

/// Runs a query and reads each row.
pub fn rows<T>(sql: &str, arguments: &[DatumWithOid], read: impl Fn(Row) -> Result<T>) -> Result<Vec<T>> {
    // pgrx gives the transaction an id here, so that the query sees what is there now; a standby has none to give.
    if security::is_standby() {
        return look(sql, arguments, read);
    }
    Spi::connect_mut(|client| {
        let table = client.update(sql, None, arguments).map_err(failed)?;
        table.into_iter().map(|row| read(Row(row))).collect()
    })
}

type Kept = HashMap<String, Rc<OwnedPreparedStatement>>;

static KEPT: PerBackend<RefCell<Option<Kept>>> = PerBackend::new(RefCell::new(None));

/// Plans that a session keeps; when there are more, all are forgotten.
const MOST_KEPT: usize = 64;

/// The same for a statement that the session runs again and again: its plan is kept, and made anew by the server when it is old. The arguments' types
/// are always the same.
pub fn kept_rows<T>(sql: &str, arguments: &[DatumWithOid], read: impl Fn(Row) -> Result<T>) -> Result<Vec<T>> {
    if security::is_standby() {
        return look(sql, arguments, read);
    }
    Spi::connect_mut(|client| {
        let known = KEPT.borrow().as_ref().and_then(|kept| kept.get(sql).map(Rc::clone));
        let plan = match known {
            Some(plan) => plan,
            None => {
                let types: Vec<PgOid> = arguments.iter().map(|argument| PgOid::from(argument.oid())).collect();
                let plan = Rc::new(client.prepare_mut(sql, &types).map_err(failed)?.keep());
                let mut kept = KEPT.borrow_mut();
                let kept = kept.get_or_insert_default();
                if kept.len() >= MOST_KEPT {
                    kept.clear();
                }
                kept.insert(sql.to_owned(), Rc::clone(&plan));
                plan
            }
        };
        let table = client.update(&*plan, None, arguments).map_err(failed)?;
        table.into_iter().map(|row| read(Row(row))).collect()
    })
}

/// As `kept_rows`, for at most one row.
pub fn kept_row<T>(sql: &str, arguments: &[DatumWithOid], read: impl Fn(Row) -> Result<T>) -> Result<Option<T>> {
    Ok(kept_rows(sql, arguments, read)?.into_iter().next())
}

/// As `kept_rows`, for a statement's effect.
pub fn kept_run(sql: &str, arguments: &[DatumWithOid]) -> Result<()> {
    kept_rows(sql, arguments, |_| Ok(())).map(drop)
}

/// Runs a query that only looks: also on a standby and in parallel mode, where no transaction id can be had. It sees what the
/// running statement sees.
pub fn look<T>(sql: &str, arguments: &[DatumWithOid], read: impl Fn(Row) -> Result<T>) -> Result<Vec<T>> {
    Spi::connect(|client| {
        let table = client.select(sql, None, arguments).map_err(failed)?;
        table.into_iter().map(|row| read(Row(row))).collect()
    })
}

/// Runs a query that gives at most one row.
pub fn row<T>(sql: &str, arguments: &[DatumWithOid], read: impl Fn(Row) -> Result<T>) -> Result<Option<T>> {
    Ok(rows(sql, arguments, read)?.into_iter().next())
}

/// Runs a statement for its effect.
pub fn run(sql: &str, arguments: &[DatumWithOid]) -> Result<()> {
    Spi::connect_mut(|client| client.update(sql, None, arguments).map(drop).map_err(failed))
}

/// A string constant, quoted.
pub fn literal(text: &str) -> String {
    spi::quote_literal(text)
}

/// An identifier, quoted where SQL needs it.
pub fn identifier(name: &str) -> String {
    spi::quote_identifier(name)
}

fn failed(error: spi::Error) -> pgrx::pg_sys::panic::ErrorReport {
    error::internal(error.to_string())
}
