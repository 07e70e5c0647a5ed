//! The one SPI helper: parametrised statements with errors as reports. Never used inside a hook.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{self, SpiHeapTupleData};

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
