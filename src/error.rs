//! The SQLSTATEs that are raised, each under the name of what it means. Message, detail and hint are the caller's, who knows the thing.
//!
//! Two cannot raise here and choose their own: the check hooks of settings (src/pg/settings), whose error the server makes, and group commit
//! (src/inventory/group), whose worker hands the error to whoever called.
//!
//! 22023 a bad argument · 25001 not in such a transaction · 25006 read-only · 28000 a token that does not verify (src/pg/settings/context.rs) · 40001 run it again · 40P01 transactions wait for each other · 42501 no context, or no
//! privilege · 53400 full · 54000 larger than a limit · 55P03 locked · 55000 an object that is not in the needed state. Texts are ASCII: a message must get through in any database encoding.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::context::state::{self, Absence};
use crate::pg::counters::{self, Counter};

pub type Result<T> = std::result::Result<T, ErrorReport>;

fn report(code: PgSqlErrorCode, message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(code, message.into(), "bulkhead")
}

/// A broken promise of our own or of the server's: never a user's fault.
pub fn internal(message: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message)
}

/// A bad argument: 22023.
pub fn argument(message: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).set_hint(hint)
}

/// An argument that must not be NULL: 22023.
pub fn given<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| self::argument(format!("{name} must not be NULL"), "Give it a value."))
}

/// An object that is not in the needed state: 55000.
pub fn state(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message).set_detail(detail).set_hint(hint)
}

/// Something is larger than a limit allows: 54000.
pub fn limit(message: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message).set_hint(hint)
}

/// A ring or a queue is full: 53400.
pub fn crowded(message: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, message).set_hint(hint)
}

/// Another transaction is at the same thing, or was faster and this one cannot see what it did: 40001.
pub fn retry(message: impl Into<String>, detail: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, message)
        .set_detail(detail)
        .set_hint("Run the transaction again.")
}

/// No privilege, or a tenant's border: 42501.
pub fn denied(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message).set_detail(detail).set_hint(hint)
}

/// Not in this transaction: 25001.
pub fn transaction(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION, message).set_detail(detail).set_hint(hint)
}

/// Nothing can be written here: 25006.
pub fn read_only(message: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION, message).set_hint(hint)
}

/// A lock that could not be had: 55P03.
pub fn busy(message: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, message).set_hint("Try again.")
}

/// Transactions that wait for each other: 40P01.
pub fn deadlock(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> ErrorReport {
    report(PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED, message).set_detail(detail).set_hint(hint)
}

/// How to give a transaction its tenant.
const SET_TENANT: &str = "Set the tenant first: BEGIN; SET LOCAL bulkhead.tenant_context = '...'; or SELECT bulkhead.set_tenant('...') inside the transaction.";

/// For roles that row level security does not bind: what they do is often meant for all tenants.
const BYPASS: &str = "For work on all tenants: BEGIN; SELECT bulkhead.begin_bypass('why'); or PGOPTIONS=\"-c bulkhead.bypass=why\" for pg_dump.";

const LOST_TENANT: &str = "A local context ends with its transaction: use BEGIN. Set the tenant first: BEGIN; SET LOCAL bulkhead.tenant_context = '...'; or SELECT bulkhead.set_tenant('...') inside the transaction.";

/// There is no tenant where one is needed: 42501. `what` is the object that needs it; `exempt`: for a role that could bypass.
pub fn no_tenant(what: &str, exempt: bool) -> ErrorReport {
    // Whoever asks for this report raises it.
    counters::add(Counter::NoTenant, 1);
    let message = format!("no tenant context for {what}");
    let (detail, hint) = match state::absence() {
        Some(Absence::Refused(fault)) => (
            format!("A tenant token was refused ({}), and what was set before it no longer counts.", fault.message()),
            fault.hint(),
        ),
        Some(Absence::Token(fault)) => {
            (format!("The session's tenant token does not count: {}.", fault.message()), fault.hint())
        }
        Some(Absence::Unsigned) => (
            "The session has a tenant id that is not signed, and bulkhead.context_mode is signed.".to_owned(),
            "Set a signed token.",
        ),
        Some(Absence::OtherTenant) => (
            "A rollback or RESET brought back another tenant than the one this transaction has acted for.".to_owned(),
            "End this transaction; one transaction acts for one tenant.",
        ),
        None => (
            "The current transaction acts for no tenant.".to_owned(),
            if state::ended_with_its_transaction() { LOST_TENANT } else { SET_TENANT },
        ),
    };
    let hint = if exempt { format!("{hint} {BYPASS}") } else { hint.to_owned() };
    denied(message, detail, hint)
}
