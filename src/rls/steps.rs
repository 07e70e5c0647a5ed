//! From what a table looks like to the statements that protect it, or put it back. Pure: text in, text out.
//!
//! Every name that comes in is quoted already.

use serde::{Deserialize, Serialize};

use super::facts::{Facts, Policy};

/// Restrictive: whatever permissive policy somebody adds later, rows of other tenants stay out.
pub const FLOOR: &str = "bulkhead_floor";
/// Permissive: without one, row level security shows nothing at all.
pub const TENANT: &str = "bulkhead_tenant";
/// A shared table is read by all, and written by none but its owner.
const SHARED: [(&str, &str); 4] = [
    ("bulkhead_shared_read", "AS PERMISSIVE FOR SELECT TO PUBLIC USING (true)"),
    ("bulkhead_shared_insert", "AS RESTRICTIVE FOR INSERT TO PUBLIC WITH CHECK (false)"),
    ("bulkhead_shared_update", "AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (false)"),
    ("bulkhead_shared_delete", "AS RESTRICTIVE FOR DELETE TO PUBLIC USING (false)"),
];

/// What a table was like before, for unprotect(): each field true means that we changed nothing there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub rls: bool,
    pub forced: bool,
    pub not_null: bool,
    pub default: bool,
    /// The index that protect() made, by its quoted name.
    pub index: Option<String>,
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

fn step(sql: String) -> Step {
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
            && policy.general
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

/// The statements for one table. `parent` is the root of its tree, whose own statements reach it for what recurses.
pub fn protect(name: &str, facts: &Facts, root: Option<&Facts>, border: Border, needs_index: bool) -> Vec<Step> {
    let Border { column, accessor } = border;
    let mut steps = Vec::new();
    if needs_index {
        steps.push(Step { sql: format!("CREATE INDEX ON {name} ({column})"), makes_index: true });
    }
    if !facts.not_null && root.is_none_or(|root| root.not_null) {
        steps.push(step(format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL")));
    }
    if !facts.default && root.is_none_or(|root| root.default) {
        steps.push(step(format!("ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {accessor}")));
    }
    // The policies come before row level security is enabled, so that no moment is without them even outside a transaction.
    let others_grant = facts.rls && facts.policies.iter().any(|p| p.permissive && p.name != TENANT);
    let wanted = [(FLOOR, false, true), (TENANT, true, !others_grant)];
    for (policy, permissive, wanted) in wanted {
        let present = facts.policies.iter().find(|p| p.name == policy);
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

/// What protect() leaves as it is, as comments: policies of the user's own.
pub fn kept(name: &str, facts: &Facts) -> Vec<String> {
    let ours = |policy: &&Policy| policy.name != FLOOR && policy.name != TENANT;
    let grants = facts.rls && facts.policies.iter().filter(ours).any(|policy| policy.permissive);
    let mut notes: Vec<String> = facts
        .policies
        .iter()
        .filter(ours)
        .map(|policy| format!("-- {name} keeps its policy {:?}", policy.name))
        .collect();
    if grants {
        notes.push(format!(
            "-- {name} gets no policy {TENANT}: beside its own permissive policies it would let more through. \
             When they are dropped, call protect() again"
        ));
    }
    notes
}

/// The statements that declare a table shared.
pub fn share(name: &str, facts: &Facts) -> Vec<Step> {
    let mut steps: Vec<Step> = SHARED
        .iter()
        .filter(|(policy, _)| !facts.policies.iter().any(|p| p.name == *policy))
        .map(|(policy, body)| step(format!("CREATE POLICY {policy} ON {name} {body}")))
        .collect();
    if !facts.rls {
        steps.push(step(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")));
    }
    steps
}

/// The statements that put a table back. `own_default`: the column's default is the accessor that protect() set.
/// What recurses (NOT NULL, the default) is undone at the root only.
pub fn unprotect(
    name: &str,
    facts: &Facts,
    earlier: &Earlier,
    column: &str,
    own_default: bool,
    is_root: bool,
) -> Vec<Step> {
    let ours = |policy: &&Policy| {
        [FLOOR, TENANT].contains(&policy.name.as_str()) || SHARED.iter().any(|(shared, _)| *shared == policy.name)
    };
    let mut steps = Vec::new();
    // Row level security goes first: with the policies gone first, a moment would deny everything.
    if !earlier.forced && facts.forced {
        steps.push(step(format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")));
    }
    if !earlier.rls && facts.rls {
        steps.push(step(format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")));
    }
    steps.extend(facts.policies.iter().filter(ours).map(|p| step(format!("DROP POLICY {} ON {name}", p.name))));
    if is_root && !earlier.default && own_default {
        steps.push(step(format!("ALTER TABLE {name} ALTER COLUMN {column} DROP DEFAULT")));
    }
    if is_root && !earlier.not_null && facts.not_null {
        steps.push(step(format!("ALTER TABLE {name} ALTER COLUMN {column} DROP NOT NULL")));
    }
    if let Some(index) = &earlier.index {
        steps.push(step(format!("DROP INDEX IF EXISTS {index}")));
    }
    steps
}

/// The statements that lead a live table to protect() without a long lock. `leaves` are the tables with rows of their own.
pub fn live(name: &str, id: u32, facts: &Facts, leaves: &[(String, u32, bool)], border: Border) -> Vec<String> {
    let Border { column, .. } = border;
    let mut plan = Vec::new();
    if facts.partitioned {
        let index = |table: u32| format!("bulkhead_{table}_tenant_idx");
        if !facts.indexed {
            plan.push(format!("CREATE INDEX {} ON ONLY {name} ({column})", index(id)));
            let schema = |leaf: &str| schema_of(leaf).to_owned();
            for (leaf, leaf_id, _) in leaves {
                plan.push(format!("CREATE INDEX CONCURRENTLY {} ON {leaf} ({column})", index(*leaf_id)));
                plan.push(format!(
                    "ALTER INDEX {}.{} ATTACH PARTITION {}.{}",
                    schema(name),
                    index(id),
                    schema(leaf),
                    index(*leaf_id)
                ));
            }
        }
    } else {
        let without = leaves.iter().filter(|(_, _, indexed)| !indexed);
        plan.extend(without.map(|(leaf, _, _)| format!("CREATE INDEX CONCURRENTLY ON {leaf} ({column})")));
    }
    if !facts.not_null {
        plan.push(format!(
            "ALTER TABLE {name} ADD CONSTRAINT bulkhead_not_null CHECK ({column} IS NOT NULL) NOT VALID"
        ));
        plan.push(format!("ALTER TABLE {name} VALIDATE CONSTRAINT bulkhead_not_null"));
        plan.push(format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL"));
        plan.push(format!("ALTER TABLE {name} DROP CONSTRAINT bulkhead_not_null"));
    }
    plan
}

/// The schema of a quoted, qualified name.
fn schema_of(name: &str) -> &str {
    let mut quoted = false;
    for (at, c) in name.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => return &name[..at],
            _ => {}
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const BORDER: Border = Border { column: "org_id", accessor: "bulkhead.tenant_id()" };

    fn sql(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.sql.as_str()).collect()
    }

    fn policy(name: &str, permissive: bool, using: &str) -> Policy {
        Policy { name: name.into(), permissive, general: true, using: Some(using.into()), check: None }
    }

    fn protected() -> Facts {
        let qual = "(org_id = bulkhead.tenant_id())";
        Facts {
            rls: true,
            forced: true,
            not_null: true,
            default: true,
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
                "ALTER TABLE app.orders ALTER COLUMN org_id SET DEFAULT bulkhead.tenant_id()",
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
        assert!(sql(&child).iter().all(|sql| !sql.contains("COLUMN")));
        let attached = protect("t_2", &Facts::default(), Some(&protected()), BORDER, false);
        assert_eq!(sql(&attached).iter().filter(|sql| sql.contains("COLUMN")).count(), 2);
    }

    #[test]
    fn unprotect_puts_back_what_was_there() {
        let earlier = Earlier::of(&Facts { not_null: true, ..Facts::default() });
        let steps = unprotect("t", &protected(), &earlier, "org_id", true, true);
        assert_eq!(
            sql(&steps),
            [
                "ALTER TABLE t NO FORCE ROW LEVEL SECURITY",
                "ALTER TABLE t DISABLE ROW LEVEL SECURITY",
                "DROP POLICY bulkhead_floor ON t",
                "DROP POLICY bulkhead_tenant ON t",
                "ALTER TABLE t ALTER COLUMN org_id DROP DEFAULT",
            ]
        );
        assert!(unprotect("t", &Facts::default(), &Earlier::of(&protected()), "org_id", false, true).is_empty());
    }

    #[test]
    fn a_partitioned_table_is_indexed_leaf_by_leaf() {
        let facts = Facts { partitioned: true, not_null: true, ..Facts::default() };
        let plan = live("\"a.b\".t", 1, &facts, &[("s.t1".into(), 2, false)], BORDER);
        assert_eq!(
            plan,
            [
                "CREATE INDEX bulkhead_1_tenant_idx ON ONLY \"a.b\".t (org_id)",
                "CREATE INDEX CONCURRENTLY bulkhead_2_tenant_idx ON s.t1 (org_id)",
                "ALTER INDEX \"a.b\".bulkhead_1_tenant_idx ATTACH PARTITION s.bulkhead_2_tenant_idx",
            ]
        );
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
