//! What a procedure's step asks first: the steps are functions that anybody may call, and the privilege is EXECUTE on the procedure.

use super::{client, security, spi};
use crate::error::{self, Result};

/// Whether the current role may call the extension's procedure of that name.
pub fn may_execute(name: &str) -> Result<bool> {
    // By the schema's name: the statement is kept, and the extension may be dropped and made again.
    let may = spi::kept_row(
        "SELECT has_function_privilege(p.oid, 'EXECUTE') FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE n.nspname = 'bulkhead' AND p.proname = $1::text AND p.prokind = 'p'",
        &[name.to_owned().into()],
        |row| row.get::<bool>(1),
    )?;
    Ok(may == Some(true))
}

/// 25006 in a read-only transaction and on a standby. `procedure`: as the message names it.
pub fn refuse_read_only(procedure: &str, hint: &str) -> Result<()> {
    if client::may_write() {
        return Ok(());
    }
    Err(error::read_only(format!("{procedure} has to write, and this transaction is read-only"), hint))
}

/// 55000 in a transaction that keeps its snapshot. `procedure`: as the message names it.
pub fn refuse_old_snapshot(procedure: &str, detail: &str) -> Result<()> {
    if !security::has_transaction_snapshot() {
        return Ok(());
    }
    Err(error::state(
        format!("{procedure} needs to see what others commit, and this transaction does not"),
        detail,
        format!("CALL {procedure}, which begins its own transactions."),
    ))
}
