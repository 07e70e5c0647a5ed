//! The rule of `context_mode = locked`: one transaction, one tenant.
//!
//! A state machine without a server. It hears of each SET before it happens (`may_set`, `set`), of each change
//! of the value for whatever reason (`changed`: RESET and rollbacks pass no check), and of each statement that
//! touches a protected table (`touch`); it answers whether the value may be seen (`visible`). Its promise: rows of at
//! most one tenant are seen by one transaction, whatever is rolled back in between; and only of one that was set in it, or that
//! the session had when it began.

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

/// Why the value changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// By a statement that does nothing else, or by a SET that was admitted.
    Admitted,
    /// A savepoint or an exception block was rolled back.
    RolledBack,
    /// RESET inside something else, or the end of a function's SET clause.
    Unasked,
}

pub struct Lock {
    phase: Phase,
    /// The tenant that the transaction is fixed to; none while open, or when it touched without.
    fixed: Tenant,
    /// The tenant that the session had when the transaction first changed it.
    start: Tenant,
}

impl Lock {
    pub const fn new() -> Lock {
        Lock { phase: Phase::Open, fixed: Tenant::NONE, start: Tenant::NONE }
    }

    /// As `new` has made it.
    #[inline(always)]
    pub fn is_new(&self) -> bool {
        self.phase == Phase::Open && self.start.is_none()
    }

    /// May `new` be set while the value is `current`? `alone`: by a top-level statement that does nothing else.
    /// Clearing is always allowed.
    pub fn may_set(&self, current: &Tenant, new: &Tenant, alone: bool) -> Result<(), Refusal> {
        if new.is_none() {
            return Ok(());
        }
        if self.phase == Phase::Open {
            let held = if current.is_none() { &self.start } else { current };
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

    /// `new` passed `may_set` while the value is `current`, and is about to be assigned.
    pub fn set(&mut self, current: &Tenant, new: &Tenant) {
        if self.phase == Phase::Open && !new.is_none() {
            self.leave_open(current, new);
        }
    }

    /// The session had this tenant when the transaction first changed it.
    pub fn began_with(&self, tenant: &Tenant) -> bool {
        self.start.id() == tenant.id()
    }

    /// The value changed from `old` to `new`.
    pub fn changed(&mut self, old: &Tenant, new: &Tenant, change: Change) {
        match (self.phase, change) {
            (Phase::Open, _) if old.id() == new.id() => {}
            (Phase::Open, _) if new.is_none() => self.remember_start(old),
            // RESET to a tenant of the role's: by a statement of its own it counts as SET; inside another it must not show.
            (Phase::Open, Change::Admitted) => self.leave_open(old, new),
            (Phase::Open, _) => {
                let held = if old.is_none() { self.start } else { *old };
                if !held.is_none() {
                    self.leave_open(old, &held);
                }
            }
            // No row was seen under the former tenant, so the one that the session began with takes its place; the
            // transaction stays fixed.
            (Phase::Set, Change::RolledBack) if new.id() == self.start.id() && !new.is_none() => self.fixed = *new,
            _ => {}
        }
    }

    fn leave_open(&mut self, start: &Tenant, fixed: &Tenant) {
        self.remember_start(start);
        self.phase = Phase::Set;
        self.fixed = *fixed;
    }

    fn remember_start(&mut self, start: &Tenant) {
        if self.start.is_none() {
            self.start = *start;
        }
    }

    /// A statement is about to read or write a protected table while the value is `current`.
    pub fn touch(&mut self, current: &Tenant) {
        if self.phase == Phase::Open {
            self.fixed = *current;
        }
        self.phase = Phase::Touched;
    }

    /// A parallel worker begins, with the tenant its leader has: fixed, and that is that.
    pub fn begin_worker(&mut self, tenant: &Tenant) {
        *self = Lock { phase: Phase::Touched, fixed: *tenant, start: *tenant };
    }

    /// Nothing was set or touched yet.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the transaction may act for `current`. Not so when a rollback or RESET brought back a tenant other
    /// than the one that the transaction is fixed to.
    pub fn visible(&self, current: &Tenant) -> bool {
        self.phase == Phase::Open || self.fixed.id() == current.id()
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
    use std::collections::BTreeSet;

    use super::*;

    fn t(id: &str) -> Tenant {
        Tenant::parse(&mut id.as_bytes().to_vec()).unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    /// A transaction as the server drives the lock: the value, its savepoints, and the role's default.
    struct Transaction {
        lock: Lock,
        value: Tenant,
        savepoints: Vec<Tenant>,
    }

    impl Transaction {
        fn begin(session_level: &str) -> Transaction {
            Transaction { lock: Lock::new(), value: t(session_level), savepoints: Vec::new() }
        }
        fn assign(&mut self, new: Tenant, change: Change) {
            let old = std::mem::replace(&mut self.value, new);
            self.lock.changed(&old, &new, change);
        }
        fn try_set(&mut self, new: &str, alone: bool) -> Result<(), Refusal> {
            self.lock.may_set(&self.value, &t(new), alone)?;
            self.lock.set(&self.value, &t(new));
            self.assign(t(new), Change::Admitted);
            Ok(())
        }
        fn reset(&mut self, default: &str, alone: bool) {
            self.assign(t(default), if alone { Change::Admitted } else { Change::Unasked });
        }
        fn savepoint(&mut self) {
            self.savepoints.push(self.value);
        }
        fn rollback_to(&mut self) {
            if let Some(value) = self.savepoints.last().copied() {
                self.assign(value, Change::RolledBack);
            }
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
        assert_eq!(x.seen().as_deref(), Some("a"));
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
        for reset in [false, true] {
            let mut x = Transaction::begin("s");
            if reset {
                x.reset("", false)
            } else {
                assert_eq!(x.try_set("", false), Ok(()))
            }
            assert_eq!(x.try_set("b", false), Err(Refusal::NotAlone));
            assert_eq!(x.try_set("b", true), Ok(()));
        }
    }

    #[test]
    fn a_reset_inside_another_statement_shows_no_second_tenant() {
        let mut set = Transaction::begin("");
        assert_eq!(set.try_set("a", false), Ok(()));
        set.reset("r", false);
        assert_eq!(set.seen(), None);
        let mut session = Transaction::begin("a");
        session.reset("r", false);
        assert_eq!(session.seen(), None);
        let mut cleared = Transaction::begin("a");
        cleared.try_set("", false).unwrap_or_default();
        cleared.reset("r", false);
        assert_eq!(cleared.seen(), None);
        let mut alone = Transaction::begin("a");
        alone.reset("r", true);
        assert_eq!(alone.seen().as_deref(), Some("r"));
    }

    #[test]
    fn a_rollback_brings_the_outer_tenant_back_but_does_not_reopen() {
        let mut x = Transaction::begin("s");
        x.savepoint();
        assert_eq!(x.try_set("a", true), Ok(()));
        x.rollback_to();
        assert_eq!(x.try_set("a", true), Err(Refusal::OtherTenant));
        assert_eq!(x.seen().as_deref(), Some("s"));
    }

    #[test]
    fn a_rollback_after_rows_were_seen_shows_no_second_tenant() {
        let mut x = Transaction::begin("s");
        x.savepoint();
        assert_eq!(x.try_set("a", true), Ok(()));
        assert_eq!(x.seen().as_deref(), Some("a"));
        x.rollback_to();
        assert_eq!(x.seen(), None);
    }

    #[test]
    fn a_rollback_to_none_leaves_the_transaction_fixed() {
        let mut x = Transaction::begin("");
        x.savepoint();
        assert_eq!(x.try_set("a", false), Ok(()));
        x.rollback_to();
        assert_eq!(x.try_set("b", true), Err(Refusal::OtherTenant));
        assert_eq!(x.try_set("a", true), Ok(()));
    }

    #[test]
    fn a_worker_keeps_its_leaders_tenant() {
        let mut lock = Lock::new();
        lock.begin_worker(&t("a"));
        assert!(lock.visible(&t("a")) && !lock.visible(&t("b")));
        assert_eq!(lock.may_set(&t("a"), &t("b"), true), Err(Refusal::OtherTenant));
        assert_eq!(lock.may_set(&Tenant::NONE, &t("b"), true), Err(Refusal::OtherTenant));
        lock.begin_worker(&Tenant::NONE);
        assert_eq!(lock.may_set(&Tenant::NONE, &t("b"), true), Err(Refusal::TouchedWithout));
    }

    /// Every history of six steps; `alone`: statements of their own are among them.
    fn histories(start: &str, alone: bool, mut check: impl FnMut(&BTreeSet<String>, u32)) {
        let steps = 8u32;
        for code in 0..steps.pow(6) {
            let mut x = Transaction::begin(start);
            let mut seen = BTreeSet::new();
            let mut rest = code;
            for _ in 0..6 {
                match rest % steps {
                    0 => drop(x.try_set("a", alone)),
                    1 => drop(x.try_set("b", alone)),
                    2 => drop(x.try_set("", false)),
                    3 => x.reset("r", false),
                    4 => x.reset("", false),
                    5 => x.savepoint(),
                    6 => x.rollback_to(),
                    _ => seen.extend(x.seen()),
                }
                rest /= steps;
            }
            check(&seen, code);
        }
    }

    #[test]
    fn at_most_one_tenant_is_seen_in_every_short_history() {
        for start in ["", "a"] {
            histories(start, true, |seen, code| assert!(seen.len() <= 1, "start {start:?}, history {code}: {seen:?}"));
        }
    }

    #[test]
    fn no_expression_leads_from_a_session_level_tenant_to_another() {
        histories("a", false, |seen, code| {
            assert!(seen.iter().all(|tenant| tenant == "a"), "history {code}: {seen:?}");
        });
    }
}
