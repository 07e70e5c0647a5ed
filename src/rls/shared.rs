//! Tables that every tenant reads and none writes. Pure.
//!
//! Row level security without FORCE: the owner, who maintains the table, is not bound; everybody else reads all and
//! writes nothing, whatever permissive policies are added later.

use super::facts::{Facts, Policy};
use super::steps::{Step, step};

struct Shared {
    name: &'static str,
    permissive: bool,
    command: &'static str,
    using: Option<&'static str>,
    check: Option<&'static str>,
    body: &'static str,
}

const POLICIES: [Shared; 4] = [
    Shared {
        name: "bulkhead_shared_read",
        permissive: true,
        command: "r",
        using: Some("true"),
        check: None,
        body: "AS PERMISSIVE FOR SELECT TO PUBLIC USING (true)",
    },
    Shared {
        name: "bulkhead_shared_insert",
        permissive: false,
        command: "a",
        using: None,
        check: Some("false"),
        body: "AS RESTRICTIVE FOR INSERT TO PUBLIC WITH CHECK (false)",
    },
    Shared {
        name: "bulkhead_shared_update",
        permissive: false,
        command: "w",
        using: Some("false"),
        check: None,
        body: "AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (false)",
    },
    Shared {
        name: "bulkhead_shared_delete",
        permissive: false,
        command: "d",
        using: Some("false"),
        check: None,
        body: "AS RESTRICTIVE FOR DELETE TO PUBLIC USING (false)",
    },
];

/// Whether share() made the policy.
pub fn is_ours(policy: &Policy) -> bool {
    POLICIES.iter().any(|shared| shared.name == policy.name)
}

pub fn drop_policies(name: &str, facts: &Facts) -> Vec<Step> {
    facts.policies.iter().filter(|p| is_ours(p)).map(|p| step(format!("DROP POLICY {} ON {name}", p.name))).collect()
}

/// The statements that declare a table shared, or repair it.
pub fn share(name: &str, facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    for wanted in &POLICIES {
        let present = facts.policy(wanted.name);
        if present.is_some_and(|policy| {
            policy.public
                && policy.permissive == wanted.permissive
                && policy.command == wanted.command
                && policy.using.as_deref() == wanted.using
                && policy.check.as_deref() == wanted.check
        }) {
            continue;
        }
        if present.is_some() {
            steps.push(step(format!("DROP POLICY {} ON {name}", wanted.name)));
        }
        steps.push(step(format!("CREATE POLICY {} ON {name} {}", wanted.name, wanted.body)));
    }
    if !facts.rls {
        steps.push(step(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Facts {
        let policies = POLICIES.iter().map(|shared| Policy {
            name: shared.name.into(),
            permissive: shared.permissive,
            command: shared.command.into(),
            public: true,
            using: shared.using.map(Into::into),
            check: shared.check.map(Into::into),
        });
        Facts { rls: true, policies: policies.collect(), ..Facts::default() }
    }

    #[test]
    fn a_table_is_shared_once() {
        assert_eq!(share("t", &Facts::default()).len(), 5);
        assert_eq!(share("t", &made()), []);
    }

    #[test]
    fn a_weakened_policy_is_made_anew() {
        let mut facts = made();
        facts.policies[1].check = Some("true".into());
        let sql: Vec<String> = share("t", &facts).into_iter().map(|step| step.sql).collect();
        assert_eq!(sql[0], "DROP POLICY bulkhead_shared_insert ON t");
        assert!(sql[1].starts_with("CREATE POLICY bulkhead_shared_insert ON t AS RESTRICTIVE FOR INSERT"));
        assert_eq!(sql.len(), 2);
    }
}
