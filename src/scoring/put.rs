//! put_rule_set() and its siblings: writes versions, and says which one is active.

use pgrx::prelude::*;

use super::{ascii, refused, rules, sets};
use crate::context::state;
use crate::error::{self, Result};
use crate::pg::{client, own_locks, scoring, security, settings, spi, version};

/// A name's length in bytes; more is no name.
const LONGEST_NAME: usize = 255;

/// Whose rule sets: the tenant's, or everybody's.
struct Owner {
    tenant: Option<String>,
    table: &'static str,
    /// The condition on the owner, with the tenant as $1.
    is: &'static str,
}

impl Owner {
    fn shared() -> Owner {
        Owner { tenant: None, table: "bulkhead.shared_rule_set", is: "$1 IS NULL" }
    }

    fn current(what: &str) -> Result<Owner> {
        let tenant = state::with_tenant(|tenant| tenant.id().to_vec());
        if tenant.is_empty() {
            return Err(error::no_tenant(what, false));
        }
        state::touch();
        let tenant = String::from_utf8_lossy(&tenant).into_owned();
        Ok(Owner { tenant: Some(tenant), table: "bulkhead.rule_set", is: "tenant = $1" })
    }

    fn lock(&self, name: &str) {
        own_locks::rule_set(self.tenant.as_deref().unwrap_or_default(), name);
    }
}

fn checked_name(name: Option<&[u8]>) -> Result<String> {
    let name = name.map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    if name.trim().is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(error::argument(
            "a rule set's name must not be empty, nor longer than 255 bytes, nor hold control characters",
            "Give it a short name: 'lead_score'.",
        ));
    }
    Ok(name)
}

/// `put_rule_set(name, rules, activate)`, and for all tenants `put_shared_rule_set`: checks and stores the rules as the next version, which it returns.
///
/// Errors: 42501 no tenant; 22023 a bad name, or rules that are refused, with the path to the fault; 54000 rules that are too large or cost too much; 40001
/// another put the same version at once (REPEATABLE READ). Waits for whoever puts or activates the same name.
pub fn put(shared: bool, name: Option<&[u8]>, rules: Option<&[u8]>, activate: Option<bool>) -> Result<i32> {
    version::require()?;
    refuse_read_only()?;
    let owner = if shared { Owner::shared() } else { Owner::current("a rule set")? };
    let name = checked_name(name)?;
    let (Some(rules), Some(activate)) = (rules, activate) else {
        return Err(error::argument("neither rules nor activate may be NULL", "Give both a value."));
    };
    rules::rule_set(rules, settings::score_budget_ops()).map_err(refused)?;
    owner.lock(&name);
    let digest = sets::digest_of(rules, sets::Kind::RuleSet).to_vec();
    let role = client::who().role;
    security::as_extension(|| {
        let last = format!("SELECT max(version) FROM {} WHERE {} AND name = $2", owner.table, owner.is);
        let arguments = [owner.tenant.clone().into(), name.clone().into()];
        let last = spi::row(&last, &arguments, |row| row.optional::<i32>(1))?.flatten();
        let version = last.unwrap_or(0).checked_add(1).ok_or_else(|| error::internal("the versions are used up"))?;
        if activate {
            retire(&owner, &name)?;
        }
        let columns = if owner.tenant.is_some() { ("tenant, ", "$1, ") } else { ("", "") };
        let insert = format!(
            "INSERT INTO {} ({}name, version, active, digest, rules, put_by)
             SELECT {}$2, $3, $4, $5, $6, $7 WHERE $1::text IS NULL OR true ON CONFLICT DO NOTHING RETURNING version",
            owner.table, columns.0, columns.1
        );
        let arguments = [
            owner.tenant.clone().into(),
            name.clone().into(),
            version.into(),
            activate.into(),
            digest.into(),
            scoring::jsonb_argument(rules),
            role.into(),
        ];
        spi::row(&insert, &arguments, |row| row.get::<i32>(1))?.ok_or_else(|| taken(&name))
    })
}

fn retire(owner: &Owner, name: &str) -> Result<()> {
    let retire = format!("UPDATE {} SET active = false WHERE {} AND name = $2 AND active", owner.table, owner.is);
    spi::run(&retire, &[owner.tenant.clone().into(), name.to_owned().into()])
}

fn taken(name: &str) -> pg_sys::panic::ErrorReport {
    error::retry(
        format!("rule set \"{}\" was put by another session at the same time", ascii(name)),
        "This transaction is REPEATABLE READ or SERIALIZABLE and does not see what the other put.",
    )
}

fn refuse_read_only() -> Result<()> {
    if client::may_write() {
        return Ok(());
    }
    Err(error::read_only(
        "a rule set cannot be written in a read-only transaction",
        "Call it on the primary, in a session whose transactions are not read-only.",
    ))
}

/// `activate_rule_set(name, version)`, and for all tenants `activate_shared_rule_set`: from now on that version counts; NULL: none, so that the shared one shows
/// again.
///
/// Errors: 42501 no tenant; 55000 no such version. Waits for whoever puts or activates the same name.
pub fn activate(shared: bool, name: Option<&[u8]>, version: Option<i32>) -> Result<()> {
    version::require()?;
    refuse_read_only()?;
    let owner = if shared { Owner::shared() } else { Owner::current("a rule set")? };
    let name = checked_name(name)?;
    owner.lock(&name);
    security::as_extension(|| {
        let arguments = [owner.tenant.clone().into(), name.clone().into(), version.into()];
        let there = format!("SELECT true FROM {} WHERE {} AND name = $2 AND version = $3", owner.table, owner.is);
        if version.is_some() && spi::row(&there, &arguments, |row| row.get::<bool>(1))?.is_none() {
            return Err(error::state(
                format!("rule set \"{}\" has no version {}", ascii(&name), version.unwrap_or_default()),
                if shared { "Among the shared rule sets." } else { "Among the tenant's own." },
                "SELECT name, version, active FROM bulkhead.rule_sets lists them.",
            ));
        }
        retire(&owner, &name)?;
        let activate =
            format!("UPDATE {} SET active = true WHERE {} AND name = $2 AND version = $3", owner.table, owner.is);
        spi::run(&activate, &arguments)
    })
}

/// `tenant_rule_sets()`: the rule sets of the transaction's tenant, for the view; none without one.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenant_rule_sets() -> Result<
    TableIterator<
        'static,
        (
            name!(name, String),
            name!(tenant, String),
            name!(version, i32),
            name!(active, bool),
            name!(rules, String),
            name!(put_at, TimestampWithTimeZone),
            name!(put_by, String),
        ),
    >,
> {
    version::require()?;
    let tenant = state::with_tenant(|tenant| tenant.id().to_vec());
    let mut found = Vec::new();
    if !tenant.is_empty() {
        state::touch();
        let tenant = String::from_utf8_lossy(&tenant).into_owned();
        found = security::as_extension(|| {
            spi::look(
                "SELECT name, tenant, version, active, rules::text, put_at, put_by::text FROM bulkhead.rule_set WHERE tenant = $1 ORDER BY name, version",
                &[tenant.into()],
                |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?)),
            )
        })?;
    }
    Ok(TableIterator::new(found))
}
