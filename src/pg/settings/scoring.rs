//! The settings of scoring: what one document may take.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

// Fifty rules take some hundred operations. A million is some ten milliseconds: more is a mistake in a rule, or an attack by a document.
static OPERATIONS: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);
// What rules make out of a document is small; a doubling text reaches this in twenty steps.
static BYTES: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);

/// `bulkhead.score_budget_ops`.
pub fn score_budget_ops() -> u64 {
    OPERATIONS.get() as u64
}

/// `bulkhead.score_budget_bytes`, in bytes.
pub fn score_budget_bytes() -> usize {
    BYTES.get() as usize * 1024
}

/// Once, from `define`.
pub fn define() {
    GucRegistry::define_int_guc(
        c"bulkhead.score_budget_ops",
        c"How many operations the rules may take for one document.",
        c"More end the statement with SQLSTATE 54000. put_rule_set() refuses rules that take more whatever the document is.",
        &OPERATIONS,
        1_000,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"bulkhead.score_budget_bytes",
        c"How much memory the rules may take for one document, beside the document.",
        c"More end the statement with SQLSTATE 54000.",
        &BYTES,
        64,
        i32::MAX / 1024,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
}
