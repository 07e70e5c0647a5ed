//! The statements that lead a live table to protect() without a long lock. Pure.
//!
//! The plan can be stopped and made anew: what is there already is not repeated.

/// A table of the tree, the root first, a parent before its children.
pub struct Table {
    /// `schema.name`, quoted.
    pub name: String,
    pub id: u32,
    pub parent: Option<u32>,
    pub partitioned: bool,
    /// A valid, complete index begins with the tenant column.
    pub indexed: bool,
    /// Invalid indexes that begin with it, by their quoted names: what a CREATE INDEX CONCURRENTLY that failed leaves behind.
    pub broken: Vec<String>,
    /// The index that an earlier plan made for the partitioned tree is there.
    pub planned: bool,
    /// It is attached to its parent's.
    pub attached: bool,
}

/// The CHECK constraint by which SET NOT NULL needs no scan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Absent,
    NotValid,
    Valid,
}

/// All but the last statement, which is the call of protect(). `lacks_index`: neither the root nor each partition has one.
pub fn plan(tables: &[Table], column: &str, lacks_index: bool, not_null: bool, check: Check) -> Vec<String> {
    let Some(root) = tables.first() else { return Vec::new() };
    let mut plan = Vec::new();
    if root.partitioned {
        if lacks_index {
            plan.extend(partitioned(tables, column));
        }
    } else {
        for table in tables.iter().filter(|table| !table.indexed) {
            plan.extend(table.broken.iter().map(|index| format!("DROP INDEX CONCURRENTLY {index}")));
            plan.push(format!("CREATE INDEX CONCURRENTLY ON {} ({column})", table.name));
        }
    }
    let alter = |what: String| format!("ALTER TABLE {} {what}", root.name);
    if !not_null {
        if check == Check::Absent {
            plan.push(alter(format!("ADD CONSTRAINT bulkhead_not_null CHECK ({column} IS NOT NULL) NOT VALID")));
        }
        if check != Check::Valid {
            plan.push(alter("VALIDATE CONSTRAINT bulkhead_not_null".into()));
        }
        plan.push(alter(format!("ALTER COLUMN {column} SET NOT NULL")));
    }
    if !not_null || check != Check::Absent {
        plan.push(alter("DROP CONSTRAINT bulkhead_not_null".into()));
    }
    plan
}

/// An index on the partitioned tables alone, one built concurrently on each leaf, and all attached: the root's is then valid.
fn partitioned(tables: &[Table], column: &str) -> Vec<String> {
    let name = |id: u32| format!("bulkhead_{id}_tenant_idx");
    let qualified = |table: &Table| format!("{}.{}", schema_of(&table.name), name(table.id));
    let mut plan = Vec::new();
    for table in tables.iter().filter(|table| table.partitioned && !table.planned) {
        plan.push(format!("CREATE INDEX {} ON ONLY {} ({column})", name(table.id), table.name));
    }
    // Children before their parents, so that a subtree's index is complete when it is attached.
    for table in tables.iter().rev() {
        if !table.partitioned {
            let broken = table.broken.contains(&qualified(table));
            if broken {
                plan.push(format!("DROP INDEX CONCURRENTLY {}", qualified(table)));
            }
            if broken || !table.planned {
                plan.push(format!("CREATE INDEX CONCURRENTLY {} ON {} ({column})", name(table.id), table.name));
            }
        }
        let parent = tables.iter().find(|parent| Some(parent.id) == table.parent);
        if let Some(parent) = parent.filter(|_| !table.attached) {
            plan.push(format!("ALTER INDEX {} ATTACH PARTITION {}", qualified(parent), qualified(table)));
        }
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

    fn table(name: &str, id: u32, parent: Option<u32>, partitioned: bool) -> Table {
        let name = name.to_owned();
        Table { name, id, parent, partitioned, indexed: false, broken: vec![], planned: false, attached: false }
    }

    #[test]
    fn every_level_of_partitions_gets_its_index() {
        let tables =
            [table("\"a.b\".t", 1, None, true), table("s.t1", 2, Some(1), true), table("s.t1a", 3, Some(2), false)];
        assert_eq!(
            plan(&tables, "org", true, true, Check::Absent),
            [
                "CREATE INDEX bulkhead_1_tenant_idx ON ONLY \"a.b\".t (org)",
                "CREATE INDEX bulkhead_2_tenant_idx ON ONLY s.t1 (org)",
                "CREATE INDEX CONCURRENTLY bulkhead_3_tenant_idx ON s.t1a (org)",
                "ALTER INDEX s.bulkhead_2_tenant_idx ATTACH PARTITION s.bulkhead_3_tenant_idx",
                "ALTER INDEX \"a.b\".bulkhead_1_tenant_idx ATTACH PARTITION s.bulkhead_2_tenant_idx",
            ]
        );
    }

    #[test]
    fn what_a_stopped_plan_did_is_not_repeated() {
        let mut leaf = table("s.t1", 2, Some(1), false);
        leaf.planned = true;
        leaf.broken = vec!["s.bulkhead_2_tenant_idx".into()];
        let mut root = table("s.t", 1, None, true);
        root.planned = true;
        let sql = plan(&[root, leaf], "org", true, false, Check::NotValid);
        assert_eq!(
            sql,
            [
                "DROP INDEX CONCURRENTLY s.bulkhead_2_tenant_idx",
                "CREATE INDEX CONCURRENTLY bulkhead_2_tenant_idx ON s.t1 (org)",
                "ALTER INDEX s.bulkhead_1_tenant_idx ATTACH PARTITION s.bulkhead_2_tenant_idx",
                "ALTER TABLE s.t VALIDATE CONSTRAINT bulkhead_not_null",
                "ALTER TABLE s.t ALTER COLUMN org SET NOT NULL",
                "ALTER TABLE s.t DROP CONSTRAINT bulkhead_not_null",
            ]
        );
    }

    #[test]
    fn a_finished_table_needs_nothing() {
        let mut only = table("s.t", 1, None, false);
        only.indexed = true;
        assert!(plan(&[only], "org", false, true, Check::Absent).is_empty());
    }
}
