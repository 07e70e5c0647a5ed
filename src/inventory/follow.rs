//! DDL by others: the registry's names follow renamed columns.
//!
//! Here a column is known by its number. A dump gives columns other numbers, and then the names count (`home`); so they have to be right when it is made, and before the first
//! rename in the restored database the numbers have to be.

use pgrx::prelude::*;

use crate::error::Result;
use crate::pg::inventory::{all_registered, some_are_away};
use crate::pg::{client, scan, security, spi};

/// Before ALTER TABLE: what came with a dump, or with a copy of the database, is at home here. Waits for nobody.
pub fn come_home() -> Result<()> {
    // Who cannot write, or not what others wrote since, leaves it to the next one.
    if !some_are_away() || !client::may_write() || security::has_transaction_snapshot() {
        return Ok(());
    }
    let home = scan::home();
    security::as_extension(|| {
        spi::run(
            "UPDATE bulkhead.inventory i
                SET item_attnum = here.item, quantity_attnum = here.quantity, tenant_attnum = here.tenant, home = $1
               FROM (SELECT r.identity, item.attnum AS item, quantity.attnum AS quantity, tenant.attnum AS tenant
                       FROM bulkhead.inventory r
                       JOIN pg_catalog.pg_attribute item ON item.attrelid = r.relation AND item.attname = r.item_column
                       JOIN pg_catalog.pg_attribute quantity ON quantity.attrelid = r.relation AND quantity.attname = r.quantity_column
                       LEFT JOIN pg_catalog.pg_attribute tenant ON tenant.attrelid = r.relation AND tenant.attname = r.tenant_column
                      WHERE r.home <> $1 AND (r.tenant_column IS NULL OR tenant.attnum IS NOT NULL)
                        FOR UPDATE OF r SKIP LOCKED) AS here
              WHERE i.identity = here.identity",
            &[home.as_str().into()],
        )
    })
}

/// After DDL that touched `relations`, those with children marked so.
pub fn follow(relations: &[(pg_sys::Oid, bool)]) -> Result<()> {
    let inventories = all_registered();
    if !relations.iter().any(|(relation, has_children)| *has_children || inventories.contains(relation)) {
        return Ok(());
    }
    let home = scan::home();
    let stale = "SELECT r.identity, coalesce(item.attname, r.item_column) AS item, coalesce(quantity.attname, r.quantity_column) AS quantity,
                        coalesce(tenant.attname, r.tenant_column) AS tenant
                   FROM bulkhead.inventory r
                   LEFT JOIN pg_catalog.pg_attribute item ON item.attrelid = r.relation AND item.attnum = r.item_attnum AND NOT item.attisdropped
                   LEFT JOIN pg_catalog.pg_attribute quantity ON quantity.attrelid = r.relation AND quantity.attnum = r.quantity_attnum AND NOT quantity.attisdropped
                   LEFT JOIN pg_catalog.pg_attribute tenant ON tenant.attrelid = r.relation AND tenant.attnum = r.tenant_attnum AND NOT tenant.attisdropped
                  WHERE r.home = $1
                    AND (item.attname <> r.item_column OR quantity.attname <> r.quantity_column OR tenant.attname <> r.tenant_column)";
    security::as_extension(|| {
        // Only then: every session hears of an UPDATE, whatever it finds.
        if spi::row(stale, &[home.as_str().into()], |_| Ok(()))?.is_none() {
            return Ok(());
        }
        spi::run(
            &format!(
                "UPDATE bulkhead.inventory i SET item_column = named.item, quantity_column = named.quantity, tenant_column = named.tenant
                   FROM ({stale}) AS named WHERE i.identity = named.identity"
            ),
            &[home.as_str().into()],
        )
    })
}
