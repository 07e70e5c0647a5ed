//! What is measured: tables, roles, and that the library is where the comparison wants it.

use anyhow::{Result, ensure};
use pg_test::Database;

use crate::{KEYS, OTHERS, TENANTS};

/// `app` is sealed. The others are not: `rls` is for the protected table, and `plain` must never meet the library.
const ROLES: &str = "
CREATE ROLE rls LOGIN IN ROLE app;
CREATE ROLE plain LOGIN IN ROLE app;
ALTER ROLE app SET session_preload_libraries = 'bulkhead';
";

pub fn tenant(number: usize) -> String {
    format!("6f9619ff-8b86-4d01-b42d-{:012x}", number % TENANTS)
}

fn accounts(name: &str) -> String {
    format!(
        "SET ROLE owner;
         CREATE TABLE {name} (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, balance integer NOT NULL, note text);
         INSERT INTO {name}
         SELECT k, ('6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(k % {TENANTS}), 12, '0'))::uuid, k % 977, 'account ' || k
           FROM generate_series(0, {KEYS} - 1) AS k;
         CREATE INDEX ON {name} (tenant_id);
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) {name};"
    )
}

pub fn fill_sealed(database: &Database) -> Result<()> {
    database.admin(ROLES)?;
    database.admin(&accounts("sealed"))?;
    database.admin(&accounts("bare"))?;
    let protect = format!(
        "SET ROLE owner;
         SELECT FROM bulkhead.protect('sealed');
         DO $$
         BEGIN
           FOR n IN 1..{OTHERS} LOOP
             EXECUTE format('CREATE TABLE other_%s (id bigint PRIMARY KEY, tenant_id uuid NOT NULL)', n);
             PERFORM bulkhead.protect(('other_' || n)::regclass);
           END LOOP;
         END $$;
         RESET ROLE;
         ANALYZE;
         CHECKPOINT;"
    );
    database.admin(&protect).map(drop)
}

pub fn fill_observed(database: &Database, rows: u32) -> Result<()> {
    database.admin(&accounts("observed"))?;
    database.admin(&accounts("unobserved"))?;
    database.admin("SET ROLE owner; SELECT bulkhead.observe('observed')")?;
    // One tenant has 90 % of the rows; those of all lie mixed.
    let large = format!(
        "SET ROLE owner;
         CREATE TABLE large (id bigint NOT NULL, tenant_id uuid NOT NULL, quantity integer NOT NULL);
         INSERT INTO large
         SELECT i, ('6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(CASE WHEN h < 90 THEN 0 ELSE h END), 12, '0'))::uuid, i % 100
           FROM (SELECT i, abs(hashint8(i)::bigint) % 100 AS h FROM generate_series(1, {rows}) AS i) AS numbers;
         CREATE INDEX ON large (tenant_id);
         SELECT FROM bulkhead.protect('large');
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) large;
         CHECKPOINT;"
    );
    database.admin(&large).map(drop)
}

/// The comparison is worth nothing if the library is where it should not be, or is not where it should be.
pub async fn check_roles(database: &Database) -> Result<()> {
    let read = format!("SELECT FROM sealed WHERE tenant_id = '{}'", tenant(0));
    for (role, before, after) in [("app", true, true), ("rls", false, true), ("plain", false, false)] {
        let session = database.try_connect(role).await?;
        session.batch_execute(&format!("SET bulkhead.tenant_context = '{}'", tenant(0))).await?;
        let loaded = async || -> Result<bool> {
            let row =
                session.query_one("SELECT current_setting('bulkhead.context_mode', true) IS NOT NULL", &[]).await?;
            Ok(row.try_get(0)?)
        };
        ensure!(loaded().await? == before, "the library is in sessions of role {role} from the start: {}", !before);
        if role != "plain" {
            ensure!(session.query(&read, &[]).await?.len() == KEYS / TENANTS, "role {role} does not see its rows");
        }
        ensure!(loaded().await? == after, "the library is in sessions of role {role} after a query: {}", !after);
    }
    Ok(())
}

/// Nothing is compared if nothing was counted.
pub fn check_counted(database: &Database) -> Result<()> {
    let counted = database.admin("SELECT count(*), sum(count) > 1000 FROM bulkhead.naked_statements")?;
    ensure!(counted.trim() == "2|t", "naked statements of both protocols, many times: {counted}");
    Ok(())
}
