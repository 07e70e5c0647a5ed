//! The rules by name, in the order in which lint() shows them. Pure.
//!
//! The name of a rule is also that of its file in rules/, of its section in docs/lint.md and of its test.

pub struct Rule {
    pub name: &'static str,
    /// The query that finds; none for what this library knows better than the catalogs.
    pub sql: Option<&'static str>,
}

macro_rules! rules {
    ($($name:literal),* $(,)?) => {
        [$(Rule { name: $name, sql: Some(include_str!(concat!("rules/", $name, ".sql"))) }),*]
    };
}

/// What the library knows of itself, of this session and of the server.
pub const OF_THE_LIBRARY: [Rule; 4] = [
    Rule { name: "not-preloaded", sql: None },
    Rule { name: "library-version", sql: None },
    Rule { name: "server-flaw", sql: None },
    Rule { name: "session-tenant", sql: None },
];

pub const OF_THE_SCHEMA: [Rule; 45] = rules![
    // Tables
    "unprotected-table",
    "rls-disabled",
    "rls-not-forced",
    "floor-policy",
    "no-permissive-policy",
    "tenant-column-lost",
    "tenant-column-nullable",
    "unprotected-parent",
    "unprotected-child",
    "shared-table-changed",
    "child-without-tenant",
    "foreign-table",
    "undeclared-table",
    "suspected-tenant-column",
    // Policies
    "policy-widens",
    "policy-without-effect",
    "policy-reads-setting",
    "policy-per-row",
    // Keys and indexes
    "unique-without-tenant",
    "foreign-key-without-tenant",
    "tenant-index-missing",
    "index-not-tenant-first",
    "operator-not-leakproof",
    // Views and functions
    "view-without-security-invoker",
    "materialized-view",
    "security-definer-search-path",
    "security-definer-bypass",
    "immutable-reads-setting",
    "leakproof-function",
    // Roles and rights
    "bypassrls-role",
    "bypass-reachable",
    "owner-can-log-in",
    "dangerous-grant",
    "extension-grant",
    "sequence-readable",
    "replication-role",
    // What leaves the database
    "publication",
    "large-object-column",
    // Settings
    "seal-off",
    "context-mode-open",
    "missing-context-empty",
    "tenant-preset",
    "pooler",
    "event-trigger-off",
    // What was not looked at
    "not-examined",
];

/// An exception that nothing needs any more; found by comparing the others' findings with the exceptions.
pub const UNUSED_EXCEPTION: &str = "unused-exception";

/// Every rule's name.
pub fn names() -> impl Iterator<Item = &'static str> {
    OF_THE_LIBRARY.iter().chain(&OF_THE_SCHEMA).map(|rule| rule.name).chain([UNUSED_EXCEPTION])
}

/// The name that a misspelt one was probably meant to be.
pub fn nearest(name: &str) -> &'static str {
    names().min_by_key(|known| distance(known, name)).unwrap_or(UNUSED_EXCEPTION)
}

/// How many letters have to be added, removed or replaced to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_and_unique() {
        let mut seen: Vec<&str> = names().collect();
        assert!(seen.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{seen:?}");
        seen.sort_unstable();
        let count = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        assert_eq!(nearest("rls-disable"), "rls-disabled");
        assert_eq!(nearest("Rls_Not_Forced"), "rls-not-forced");
        assert_eq!(nearest("view-security-invoker"), "view-without-security-invoker");
        assert_eq!(nearest("unused-exceptions"), UNUSED_EXCEPTION);
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }
}
