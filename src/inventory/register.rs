//! Which tables are inventories.

use pgrx::prelude::*;

use super::table;
use crate::error::{self, Result};
use crate::pg::{client, columns, relation_locks, relations, scan, security, spi, version};

/// `register_inventory(relation, item_column, quantity_column)`: see mod.rs.
pub fn register(relation: pg_sys::Oid, item: &str, quantity: &str) -> Result<()> {
    version::require()?;
    client::refuse_read_only(c"register_inventory()");
    // Before the lock: who waits for it makes an autovacuum give way. And after it: until then the table could be dropped, or given away.
    check_owner(relation)?;
    relation_locks::relation(relation, relation_locks::Mode::ShareUpdate);
    check_owner(relation)?;
    let name = security::relation_name(relation);
    let kind: String = spi::row(
        "SELECT c.relkind::text || c.relpersistence::text FROM pg_class c WHERE c.oid = $1",
        &[relation.into()],
        |row| row.get(1),
    )?
    .unwrap_or_default();
    if !["rp", "pp", "ru", "pu"].contains(&kind.as_str()) {
        return Err(error::argument(
            format!("{name} cannot be an inventory"),
            "Register an ordinary or a partitioned table, and no temporary one.",
        ));
    }
    let numbers = [item, quantity].map(|column| columns::number(relation, column));
    for (number, column) in numbers.iter().zip([item, quantity]) {
        if *number <= 0 {
            return Err(error::argument(
                format!("table {name} has no column {}", spi::identifier(column)),
                "Name the columns: register_inventory('...', item_column => 'sku', quantity_column => 'stock').",
            ));
        }
        if relations::is_generated(relation, *number) {
            return Err(error::argument(
                format!("column {} of {name} is generated", spi::identifier(column)),
                "An inventory's columns are stored as they are written.",
            ));
        }
    }
    if numbers[0] == numbers[1] {
        return Err(error::argument(
            "the item column and the quantity column are the same",
            "The item column names what is sold, the quantity column how much of it there is.",
        ));
    }
    table::shape(relation, numbers[0], numbers[1])?;
    let tenant = table::border(relation)?;
    check_unique(relation, numbers[0], tenant.as_ref().map(|tenant| tenant.name.as_str()))?;
    record(relation, numbers, tenant.map(|tenant| tenant.number))
}

fn check_owner(relation: pg_sys::Oid) -> Result<()> {
    security::require_relation(relation)?;
    if security::owns(relation) {
        return Ok(());
    }
    Err(error::denied(
        format!("must be owner of table {} to register it as an inventory", security::relation_name(relation)),
        "Drains change its rows as its owner.",
        "Call this as the table's owner.",
    ))
}

/// An item has to be in one row.
fn check_unique(relation: pg_sys::Oid, item: i16, tenant: Option<&str>) -> Result<()> {
    let quoted = columns::name(relation, item);
    let unique = spi::row(
        "SELECT EXISTS (
           SELECT FROM pg_index x
            WHERE x.indrelid = $1 AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL AND x.indexprs IS NULL
              AND (SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum <> $2)
                     FROM generate_series(0, x.indnkeyatts - 1) k JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = x.indkey[k])
                  IN (ARRAY[$3], ARRAY[$3, $4]))",
        &[relation.into(), item.into(), quoted.as_str().into(), tenant.into()],
        |row| row.get::<bool>(1),
    )?;
    if unique == Some(true) {
        return Ok(());
    }
    let table = security::relation_name(relation);
    let of = tenant.map_or_else(|| quoted.clone(), |tenant| format!("{tenant}, {quoted}"));
    Err(error::state(
        format!("{table} has no unique index on ({of})"),
        "An item's quantity has to stand in one row.",
        format!("CREATE UNIQUE INDEX CONCURRENTLY ON {table} ({of});"),
    ))
}

/// Registered again with the same item and tenant columns it stays the inventory that it was, and its orders are known; so it does when it comes back to them.
/// Columns are told by their numbers, or by their names: a column that is restored, or made anew, has another number.
fn record(relation: pg_sys::Oid, [item, quantity]: [i16; 2], tenant: Option<i16>) -> Result<()> {
    let (role, home) = (security::current_role(), scan::home());
    let [item_name, quantity_name] = [item, quantity].map(|column| columns::plain_name(relation, column));
    let tenant_name = tenant.map(|column| columns::plain_name(relation, column));
    let columns = || {
        vec![
            relation.into(),
            item.into(),
            item_name.as_str().into(),
            quantity.into(),
            quantity_name.as_str().into(),
            tenant.into(),
            tenant_name.as_deref().into(),
            home.as_str().into(),
        ]
    };
    let former = security::as_extension(|| {
        let known = spi::row(
            "SELECT i.identity::text, i.quantity_column::text, i.home = $8 AND i.quantity_attnum = $4 OR i.quantity_column = $5::name
               FROM bulkhead.inventory i
              WHERE i.relation = $1 AND (i.item_column = $3::name OR i.home = $8 AND i.item_attnum = $2)
                AND CASE WHEN $6 IS NULL OR i.tenant_attnum IS NULL THEN $6 IS NULL AND i.tenant_attnum IS NULL
                         ELSE i.tenant_column = $7::name OR i.home = $8 AND i.tenant_attnum = $6 END
              ORDER BY i.home = $8 AND i.item_attnum = $2 AND coalesce(i.tenant_attnum = $6, true) DESC, i.is_current DESC, i.registered_at DESC
              LIMIT 1",
            &columns(),
            |row| Ok((row.get::<String>(1)?, row.get::<String>(2)?, row.get::<bool>(3)?)),
        )?;
        spi::run(
            "UPDATE bulkhead.inventory i SET is_current = false WHERE i.relation = $1 AND i.is_current",
            &[relation.into()],
        )?;
        let mut arguments = columns();
        arguments.push(role.into());
        let Some((identity, former, is_same)) = known else {
            spi::run(
                "INSERT INTO bulkhead.inventory
                   (relation, item_attnum, item_column, quantity_attnum, quantity_column, tenant_attnum, tenant_column, home, registered_by)
                 VALUES ($1, $2, $3::name, $4, $5::name, $6, $7::name, $8, pg_get_userbyid($9))",
                &arguments,
            )?;
            return Ok::<_, pgrx::pg_sys::panic::ErrorReport>(None);
        };
        arguments.push(identity.as_str().into());
        spi::run(
            "UPDATE bulkhead.inventory i
                SET item_attnum = $2, item_column = $3::name, quantity_attnum = $4, quantity_column = $5::name,
                    tenant_attnum = $6, tenant_column = $7::name, home = $8, is_current = true,
                    registered_at = now(), registered_by = pg_get_userbyid($9)
              WHERE i.relation = $1 AND i.identity = $10::uuid",
            &arguments,
        )?;
        Ok((!is_same).then_some(former))
    })?;
    if let Some(former) = former {
        let (table, former, now) =
            (security::relation_name(relation), spi::identifier(&former), spi::identifier(&quantity_name));
        notice!("orders that took from column {former} of {table} are given back to column {now}");
    }
    Ok(())
}
