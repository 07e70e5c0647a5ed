//! The facts of a table that decide what protect() has to do. Pure.

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub partitioned: bool,
    pub rls: bool,
    pub forced: bool,
    pub not_null: bool,
    /// It has a default, is an identity column or is generated.
    pub default: bool,
    /// That default is one of our accessors: set by protect(), or copied from a parent when a partition was made.
    pub default_is_ours: bool,
    /// A valid, complete index begins with the tenant column.
    pub indexed: bool,
    pub policies: Vec<Policy>,
}

#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub name: String,
    pub permissive: bool,
    /// As in pg_policy: `*` for all commands, `r`, `a`, `w` or `d` for one.
    pub command: String,
    /// For every role.
    pub public: bool,
    /// As the server prints them; only those of our own policies are read.
    pub using: Option<String>,
    pub check: Option<String>,
}

impl Facts {
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }
}
