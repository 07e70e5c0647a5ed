//! The rule of `context_mode = locked`: one transaction, one tenant.
//!
//! A state machine without a server. It hears of each SET before it happens (`may_set`, `set`), of each change
//! of the value for whatever reason (`changed`: RESET and rollbacks pass no check), and of each statement that
//! touches a protected table (`touch`); it answers whether the value may be seen (`visible`). Its promise: rows of at
//! most one tenant are seen by one transaction, whatever is rolled back in between.

use super::tenant::Tenant;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing set, nothing touched: what a session-level SET left may still be replaced by a statement of its own.
    Open,
    /// A tenant was set in this transaction; no protected table was touched yet.
    Set,
    /// A protected table was touched, under the fixed tenant or under none.
    Touched,
}

/// Why a SET is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This transaction was given another tenant before.
    OtherTenant,
    /// This transaction has touched a protected table without a tenant.
    TouchedWithout,
    /// A session-level tenant may be replaced only by a statement that does nothing else.
    NotAlone,
}

pub struct Lock {
    phase: Phase,
    /// The tenant that the transaction is fixed to; none while open, or when it touched without.
    fixed: Tenant,
    /// While open: the session-level tenant that was cleared in this transaction.
    cleared: Tenant,
}

impl Lock {
    pub const fn new() -> Lock {
        Lock { phase: Phase::Open, fixed: Tenant::NONE, cleared: Tenant::NONE }
    }

    /// May `new` be set while the value is `current`? `alone`: by a top-level statement that does nothing else.
    /// Clearing is always allowed.
    pub fn may_set(&self, current: &Tenant, new: &Tenant, alone: bool) -> Result<(), Refusal> {
        if new.is_none() {
            return Ok(());
        }
        if self.phase == Phase::Open {
            let held = if current.is_none() { &self.cleared } else { current };
            return if alone || held.is_none() || held.id() == new.id() { Ok(()) } else { Err(Refusal::NotAlone) };
        }
        if self.fixed.id() == new.id() {
            Ok(())
        } else if self.fixed.is_none() {
            Err(Refusal::TouchedWithout)
        } else {
            Err(Refusal::OtherTenant)
        }
    }

    /// `new` passed `may_set` and is about to be assigned.
    pub fn set(&mut self, new: &Tenant) {
        if self.phase == Phase::Open && !new.is_none() {
            self.phase = Phase::Set;
            self.fixed = *new;
        }
    }

    /// The value changed from `old` to `new`: by SET, RESET, a rollback, or the end of a function's SET clause.
    pub fn changed(&mut self, old: &Tenant, new: &Tenant) {
        match self.phase {
            Phase::Open if !old.is_none() && new.is_none() => self.cleared = *old,
            // Only a rollback or RESET leads here with another id. No row was seen under the former one, so the
            // tenant that is back takes its place; the transaction stays fixed.
            Phase::Set if !new.is_none() => self.fixed = *new,
            _ => {}
        }
    }

    /// A statement is about to read or write a protected table while the value is `current`.
    pub fn touch(&mut self, current: &Tenant) {
        if self.phase != Phase::Touched {
            self.phase = Phase::Touched;
            self.fixed = *current;
        }
    }

    /// Whether the transaction may act for `current`. Not so when a rollback or RESET brought back a tenant other
    /// than the one whose rows were seen.
    pub fn visible(&self, current: &Tenant) -> bool {
        self.phase != Phase::Touched || self.fixed.id() == current.id()
    }

    /// In plain words, for status().
    pub fn describe(&self) -> &'static str {
        match self.phase {
            Phase::Open => "not fixed yet in this transaction",
            Phase::Set => "fixed: a tenant was set in this transaction",
            Phase::Touched => "fixed: this transaction has touched a protected table",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(id: &str) -> Tenant {
        Tenant::parse(&mut id.as_bytes().to_vec()).unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    /// A transaction as the server drives the lock: the value, its savepoints, and what was refused.
    struct Transaction {
        lock: Lock,
        value: Tenant,
    }

    impl Transaction {
        fn begin(session_level: &str) -> Transaction {
            Transaction { lock: Lock::new(), value: t(session_level) }
        }
        fn assign(&mut self, new: &str) {
            let old = std::mem::replace(&mut self.value, t(new));
            self.lock.changed(&old, &self.value);
        }
        fn try_set(&mut self, new: &str, alone: bool) -> Result<(), Refusal> {
            self.lock.may_set(&self.value, &t(new), alone)?;
            self.lock.set(&t(new));
            self.assign(new);
            Ok(())
        }
        fn seen(&mut self) -> Option<String> {
            let value = self.value;
            self.lock.touch(&value);
            (self.lock.visible(&value) && !value.is_none()).then(|| String::from_utf8_lossy(value.id()).into_owned())
        }
    }

    #[test]
    fn the_first_tenant_of_a_transaction_is_its_only_one() {
        let mut x = Transaction::begin("");
        assert_eq!(x.try_set("a", false), Ok(()));
        assert_eq!(x.try_set("a", false), Ok(()));
        assert_eq!(x.try_set("b", true), Err(Refusal::OtherTenant));
        assert_eq!(x.seen().as_deref(), Some("a"));
        assert_eq!(x.try_set("b", true), Err(Refusal::OtherTenant));
    }

    #[test]
    fn clearing_is_allowed_and_opens_nothing() {
        let mut x = Transaction::begin("");
        assert_eq!(x.try_set("a", false), Ok(()));
        assert_eq!(x.try_set("", false), Ok(()));
        assert_eq!(x.try_set("b", true), Err(Refusal::OtherTenant));
        assert_eq!(x.try_set("a", false), Ok(()));
    }

    #[test]
    fn touching_without_a_tenant_fixes_none() {
        let mut x = Transaction::begin("");
        assert_eq!(x.seen(), None);
        assert_eq!(x.try_set("a", true), Err(Refusal::TouchedWithout));
        assert_eq!(x.try_set("", true), Ok(()));
    }

    #[test]
    fn a_session_level_tenant_is_replaced_only_by_a_statement_of_its_own() {
        let mut x = Transaction::begin("s");
        assert_eq!(x.try_set("b", false), Err(Refusal::NotAlone));
        assert_eq!(x.try_set("b", true), Ok(()));
        assert_eq!(x.try_set("s", true), Err(Refusal::OtherTenant));
        let mut touched = Transaction::begin("s");
        assert_eq!(touched.seen().as_deref(), Some("s"));
        assert_eq!(touched.try_set("b", true), Err(Refusal::OtherTenant));
    }

    #[test]
    fn clearing_a_session_level_tenant_first_is_no_way_round() {
        let mut x = Transaction::begin("s");
        assert_eq!(x.try_set("", false), Ok(()));
        assert_eq!(x.try_set("b", false), Err(Refusal::NotAlone));
        assert_eq!(x.try_set("b", true), Ok(()));
    }

    #[test]
    fn a_rollback_brings_the_outer_tenant_back_but_does_not_reopen() {
        let mut x = Transaction::begin("s");
        assert_eq!(x.try_set("a", true), Ok(()));
        x.assign("s");
        assert_eq!(x.seen().as_deref(), Some("s"));
        assert_eq!(x.try_set("a", true), Err(Refusal::OtherTenant));
    }

    #[test]
    fn a_rollback_after_rows_were_seen_shows_no_second_tenant() {
        let mut x = Transaction::begin("s");
        assert_eq!(x.try_set("a", true), Ok(()));
        assert_eq!(x.seen().as_deref(), Some("a"));
        x.assign("s");
        assert_eq!(x.seen(), None);
        x.assign("a");
        assert_eq!(x.seen().as_deref(), Some("a"));
    }

    #[test]
    fn a_rollback_to_none_leaves_the_transaction_fixed() {
        let mut x = Transaction::begin("");
        assert_eq!(x.try_set("a", false), Ok(()));
        x.assign("");
        assert_eq!(x.try_set("b", true), Err(Refusal::OtherTenant));
        assert_eq!(x.try_set("a", true), Ok(()));
    }

    #[test]
    fn at_most_one_tenant_is_seen_in_every_short_history() {
        // Every sequence of six steps over: set a, set b, set none, a rollback or RESET to a, b, none, and a read.
        let steps = 7u32;
        for start in ["", "a"] {
            for code in 0..steps.pow(6) {
                let mut x = Transaction::begin(start);
                let mut seen = std::collections::BTreeSet::new();
                let mut rest = code;
                for _ in 0..6 {
                    match rest % steps {
                        0 => drop(x.try_set("a", true)),
                        1 => drop(x.try_set("b", true)),
                        2 => drop(x.try_set("", false)),
                        3 => x.assign("a"),
                        4 => x.assign("b"),
                        5 => x.assign(""),
                        _ => seen.extend(x.seen()),
                    }
                    rest /= steps;
                }
                assert!(seen.len() <= 1, "start {start:?}, history {code}: {seen:?}");
            }
        }
    }
}
