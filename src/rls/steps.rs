//! From what a table looks like to the statements that protect it, or put it back. Pure: text in, text out.
//!
//! Every name that comes in is quoted already.

use serde::{Deserialize, Serialize};

use super::facts::{Facts, Policy};
use super::shared;

/// Restrictive: whatever permissive policy somebody adds later, rows of other tenants stay out.
pub const FLOOR: &str = "bulkhead_floor";
/// Permissive: without one, row level security shows nothing at all.
pub const TENANT: &str = "bulkhead_tenant";
/// What a table was like before, for unprotect(): each field true means that we changed nothing there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub rls: bool,
    pub forced: bool,
    pub not_null: bool,
    pub default: bool,
    /// The oid of the index that protect() made, where unprotect() may drop it: it took over no index of the user's.
    pub index: Option<u32>,
}

impl Earlier {
    pub fn of(facts: &Facts) -> Earlier {
        Earlier { rls: facts.rls, forced: facts.forced, not_null: facts.not_null, default: facts.default, index: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub sql: String,
    pub makes_index: bool,
}

pub fn step(sql: String) -> Step {
    Step { sql, makes_index: false }
}

/// The column and the accessor it is compared with.
#[derive(Clone, Copy)]
pub struct Border<'a> {
    pub column: &'a str,
    pub accessor: &'a str,
}

impl Border<'_> {
    fn qual(&self) -> String {
        format!("{} OPERATOR(pg_catalog.=) {}", self.column, self.accessor)
    }

    /// Whether an expression, as the server prints it, is ours. A varchar or domain column is printed with a cast.
    fn is(&self, printed: &str) -> bool {
        let Some(column) = printed.strip_suffix(&format!(" = {})", self.accessor)).and_then(|s| s.strip_prefix('('))
        else {
            return false;
        };
        column == self.column
            || ["text", "uuid", "bigint", "integer"].iter().any(|cast| column == format!("({})::{cast}", self.column))
    }

    fn holds(&self, policy: &Policy, permissive: bool) -> bool {
        policy.permissive == permissive
            && policy.public
            && policy.command == "*"
            && policy.using.as_deref().is_some_and(|using| self.is(using))
            && policy.check.as_deref().is_none_or(|check| self.is(check))
    }
}

/// The root must have an index that begins with the tenant column, or each of its partitions one.
pub fn lacks_index(root: &Facts, children: &[&Facts]) -> bool {
    let partitions_have = root.partitioned && children.iter().any(|child| !child.partitioned);
    let all_have = children.iter().filter(|child| !child.partitioned).all(|child| child.indexed);
    !(root.indexed || partitions_have && all_have)
}

/// The statements for one table. `root` is the root of its tree, where it is not the root itself: SET NOT NULL recurses.
pub fn protect(name: &str, facts: &Facts, root: Option<&Facts>, border: Border, needs_index: bool) -> Vec<Step> {
    let Border { column, accessor } = border;
    let mut steps = Vec::new();
    if needs_index {
        steps.push(Step { sql: format!("CREATE INDEX ON {name} ({column})"), makes_index: true });
    }
    if !facts.not_null && root.is_none_or(|root| root.not_null) {
        steps.push(step(format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL")));
    }
    // ONLY: a child's own default stays.
    if !facts.default {
        steps.push(step(format!("ALTER TABLE ONLY {name} ALTER COLUMN {column} SET DEFAULT {accessor}")));
    }
    // A shared table that comes under a protected parent is shared no more.
    steps.extend(shared::drop_policies(name, facts));
    // The policies come before row level security is enabled, so that no moment is without them even outside a transaction.
    let others_grant = facts.rls && foreign(facts).any(|policy| policy.permissive);
    for (policy, permissive, wanted) in [(FLOOR, false, true), (TENANT, true, !others_grant)] {
        let present = facts.policy(policy);
        if present.is_some_and(|p| border.holds(p, permissive)) {
            continue;
        }
        if present.is_some() {
            steps.push(step(format!("DROP POLICY {policy} ON {name}")));
        }
        if wanted {
            let kind = if permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
            let qual = border.qual();
            steps.push(step(format!(
                "CREATE POLICY {policy} ON {name} AS {kind} FOR ALL TO PUBLIC USING ({qual}) WITH CHECK ({qual})"
            )));
        }
    }
    if !facts.rls {
        steps.push(step(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")));
    }
    if !facts.forced {
        steps.push(step(format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY")));
    }
    steps
}

/// Policies of the user's own.
fn foreign(facts: &Facts) -> impl Iterator<Item = &Policy> {
    facts.policies.iter().filter(|policy| ![FLOOR, TENANT].contains(&policy.name.as_str()) && !shared::is_ours(policy))
}

/// What protect() leaves as it is, as comments.
pub fn kept(name: &str, facts: &Facts) -> Vec<String> {
    let mut notes: Vec<String> =
        foreign(facts).map(|policy| format!("-- {name} keeps its policy {:?}", policy.name)).collect();
    if facts.rls && foreign(facts).any(|policy| policy.permissive) {
        notes.push(format!(
            "-- {name} gets no policy {TENANT}: beside its own permissive policies it would let more through. \
             When they are dropped, call protect() again"
        ));
    }
    notes
}

/// A table as unprotect() finds it.
pub struct Undo<'a> {
    pub name: &'a str,
    pub facts: &'a Facts,
    pub earlier: &'a Earlier,
    /// The tenant column, quoted.
    pub column: &'a str,
    /// A partition's NOT NULL goes with its root's, and then has to come back where it was its own.
    pub partition: bool,
    /// The index to drop, by its quoted name.
    pub index: Option<String>,
}

/// The statements that put a table back; the root's come before its children's.
pub fn unprotect(table: &Undo) -> Vec<Step> {
    let Undo { name, facts, earlier, column, .. } = table;
    let ours = |policy: &&Policy| [FLOOR, TENANT].contains(&policy.name.as_str()) || shared::is_ours(policy);
    let mut steps = Vec::new();
    // Row level security goes first: with the policies gone first, a moment would deny everything.
    if !earlier.forced && facts.forced {
        steps.push(step(format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")));
    }
    if !earlier.rls && facts.rls {
        steps.push(step(format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")));
    }
    steps.extend(facts.policies.iter().filter(ours).map(|p| step(format!("DROP POLICY {} ON {name}", p.name))));
    if !earlier.default && facts.default_is_ours {
        steps.push(step(format!("ALTER TABLE ONLY {name} ALTER COLUMN {column} DROP DEFAULT")));
    }
    if table.partition {
        if earlier.not_null {
            steps.push(step(format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL")));
        }
    } else if !earlier.not_null && facts.not_null {
        let only = if facts.partitioned { "" } else { "ONLY " };
        steps.push(step(format!("ALTER TABLE {only}{name} ALTER COLUMN {column} DROP NOT NULL")));
    }
    steps.extend(table.index.iter().map(|index| step(format!("DROP INDEX {index}"))));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const BORDER: Border = Border { column: "org_id", accessor: "bulkhead.tenant_id()" };

    fn sql(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.sql.as_str()).collect()
    }

    fn policy(name: &str, permissive: bool, using: &str) -> Policy {
        Policy {
            name: name.into(),
            permissive,
            command: "*".into(),
            public: true,
            using: Some(using.into()),
            check: None,
        }
    }

    fn protected() -> Facts {
        let qual = "(org_id = bulkhead.tenant_id())";
        Facts {
            rls: true,
            forced: true,
            not_null: true,
            default: true,
            default_is_ours: true,
            indexed: true,
            partitioned: false,
            policies: vec![policy(FLOOR, false, qual), policy(TENANT, true, qual)],
        }
    }

    #[test]
    fn a_bare_table_gets_everything_in_order() {
        let steps = protect("app.orders", &Facts::default(), None, BORDER, true);
        assert_eq!(
            sql(&steps),
            [
                "CREATE INDEX ON app.orders (org_id)",
                "ALTER TABLE app.orders ALTER COLUMN org_id SET NOT NULL",
                "ALTER TABLE ONLY app.orders ALTER COLUMN org_id SET DEFAULT bulkhead.tenant_id()",
                "CREATE POLICY bulkhead_floor ON app.orders AS RESTRICTIVE FOR ALL TO PUBLIC USING (org_id OPERATOR(pg_catalog.=) bulkhead.tenant_id()) WITH CHECK (org_id OPERATOR(pg_catalog.=) bulkhead.tenant_id())",
                "CREATE POLICY bulkhead_tenant ON app.orders AS PERMISSIVE FOR ALL TO PUBLIC USING (org_id OPERATOR(pg_catalog.=) bulkhead.tenant_id()) WITH CHECK (org_id OPERATOR(pg_catalog.=) bulkhead.tenant_id())",
                "ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE app.orders FORCE ROW LEVEL SECURITY",
            ]
        );
    }

    #[test]
    fn a_protected_table_needs_nothing() {
        assert_eq!(protect("t", &protected(), None, BORDER, false), []);
    }

    #[test]
    fn a_weakened_policy_is_made_anew() {
        for (using, permissive) in [
            ("true", false),
            ("(org_id = bulkhead.tenant_id_text())", false),
            ("((org_id = bulkhead.tenant_id()) OR true)", false),
            ("(true OR (org_id)::text = bulkhead.tenant_id())", false),
            ("(org_id = bulkhead.tenant_id())", true),
        ] {
            let mut facts = protected();
            facts.policies[0] = policy(FLOOR, permissive, using);
            let steps = protect("t", &facts, None, BORDER, false);
            assert_eq!(steps.len(), 2, "{using}: {steps:?}");
            assert_eq!(steps[0].sql, "DROP POLICY bulkhead_floor ON t");
        }
    }

    #[test]
    fn a_cast_that_the_server_prints_is_no_difference() {
        let mut facts = protected();
        facts.policies[0] = policy(FLOOR, false, "((org_id)::text = bulkhead.tenant_id())");
        assert_eq!(protect("t", &facts, None, BORDER, false), []);
    }

    #[test]
    fn policies_in_force_are_not_widened() {
        let mut facts = protected();
        facts.policies[1] = policy("mine", true, "(owner = CURRENT_USER)");
        assert_eq!(protect("t", &facts, None, BORDER, false), []);
        assert_eq!(kept("t", &facts).len(), 2);
        // Policies without row level security filtered nothing, so ours cannot widen them.
        facts.rls = false;
        assert!(sql(&protect("t", &facts, None, BORDER, false))[0].starts_with("CREATE POLICY bulkhead_tenant"));
    }

    #[test]
    fn what_recurses_is_left_to_the_root() {
        let root = Facts::default();
        let child = protect("t_1", &Facts::default(), Some(&root), BORDER, false);
        assert!(sql(&child).iter().all(|sql| !sql.contains("NOT NULL")));
        let attached = protect("t_2", &Facts::default(), Some(&protected()), BORDER, false);
        assert_eq!(sql(&attached).iter().filter(|sql| sql.contains("NOT NULL")).count(), 1);
    }

    fn undo<'a>(facts: &'a Facts, earlier: &'a Earlier) -> Undo<'a> {
        Undo { name: "t", facts, earlier, column: "org_id", partition: false, index: None }
    }

    #[test]
    fn unprotect_puts_back_what_was_there() {
        let earlier = Earlier::of(&Facts { not_null: true, ..Facts::default() });
        let steps = unprotect(&Undo { index: Some("s.i".into()), ..undo(&protected(), &earlier) });
        assert_eq!(
            sql(&steps),
            [
                "ALTER TABLE t NO FORCE ROW LEVEL SECURITY",
                "ALTER TABLE t DISABLE ROW LEVEL SECURITY",
                "DROP POLICY bulkhead_floor ON t",
                "DROP POLICY bulkhead_tenant ON t",
                "ALTER TABLE ONLY t ALTER COLUMN org_id DROP DEFAULT",
                "DROP INDEX s.i",
            ]
        );
        let before = Earlier { default: true, ..Earlier::of(&protected()) };
        assert!(unprotect(&undo(&Facts::default(), &before)).is_empty());
    }

    #[test]
    fn a_partitions_own_not_null_comes_back() {
        let (facts, nothing) = (protected(), Earlier::of(&Facts::default()));
        let own = Earlier { not_null: true, ..nothing.clone() };
        let nulls = |undo: Undo| {
            let steps = unprotect(&undo);
            steps.iter().find(|step| step.sql.contains("NULL")).map(|step| step.sql.clone())
        };
        let set = "ALTER TABLE t ALTER COLUMN org_id SET NOT NULL";
        assert_eq!(nulls(Undo { partition: true, ..undo(&facts, &own) }).as_deref(), Some(set));
        assert_eq!(nulls(Undo { partition: true, ..undo(&facts, &nothing) }), None);
        let drop = "ALTER TABLE ONLY t ALTER COLUMN org_id DROP NOT NULL";
        assert_eq!(nulls(undo(&facts, &nothing)).as_deref(), Some(drop));
    }

    #[test]
    fn leaves_with_indexes_of_their_own_will_do() {
        let root = Facts { partitioned: true, ..Facts::default() };
        let leaf = Facts { indexed: true, ..Facts::default() };
        assert!(!lacks_index(&root, &[&leaf]));
        assert!(lacks_index(&root, &[&leaf, &Facts::default()]));
        assert!(lacks_index(&root, &[]));
    }
}
