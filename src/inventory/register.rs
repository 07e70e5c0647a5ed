//! Which tables are inventories.

use pgrx::prelude::*;

use super::table;
use crate::error::{self, Result};
use crate::pg::{columns, locks, relations, scan, security, spi};

/// `register_inventory(relation, item_column, quantity_column)`: see mod.rs.
pub fn register(relation: pg_sys::Oid, item: &str, quantity: &str) -> Result<()> {
    locks::relation(relation, locks::Mode::ShareUpdate);
    let name = security::relation_name(relation);
    if !security::exists(relation) || !security::owns(relation) {
        return Err(error::denied(
            format!("must be owner of table {name} to register it as an inventory"),
            "Drains change its rows as its owner.",
            "Call this as the table's owner.",
        ));
    }
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
    let tenant = table::border(relation)?.map(|(_, column)| column);
    check_unique(relation, numbers[0], tenant.as_deref())?;
    record(relation, numbers, [item, quantity], tenant.is_some())
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

/// Registered again with the same columns it stays the inventory that it was, and its orders are known.
fn record(relation: pg_sys::Oid, numbers: [i16; 2], names: [&str; 2], tenanted: bool) -> Result<()> {
    let (role, home) = (security::current_role(), scan::home());
    let [item, quantity] = numbers;
    security::as_extension(|| {
        spi::run(
            "INSERT INTO bulkhead.inventory AS i (relation, item_attnum, item_column, quantity_attnum, quantity_column, tenanted, home, registered_by)
             VALUES ($1, $2, $3::name, $4, $5::name, $6, $7, pg_get_userbyid($8))
             ON CONFLICT (relation) DO UPDATE
               SET identity = CASE WHEN i.item_column = excluded.item_column AND i.tenanted = excluded.tenanted THEN i.identity ELSE excluded.identity END,
                   item_attnum = excluded.item_attnum, item_column = excluded.item_column, quantity_attnum = excluded.quantity_attnum,
                   quantity_column = excluded.quantity_column, tenanted = excluded.tenanted, home = excluded.home,
                   registered_at = excluded.registered_at, registered_by = excluded.registered_by",
            &[
                relation.into(),
                item.into(),
                names[0].into(),
                quantity.into(),
                names[1].into(),
                tenanted.into(),
                home.as_str().into(),
                role.into(),
            ],
        )
    })
}
