//! The facts of a table that decide what protect() has to do. Pure.

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub partitioned: bool,
    pub rls: bool,
    pub forced: bool,
    pub not_null: bool,
    /// It has a default, is an identity column or is generated.
    pub default: bool,
    /// A valid, complete index begins with the tenant column.
    pub indexed: bool,
    pub policies: Vec<Policy>,
}

#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub name: String,
    pub permissive: bool,
    /// For all commands and for PUBLIC.
    pub general: bool,
    pub using: Option<String>,
    pub check: Option<String>,
}
