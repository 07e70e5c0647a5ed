//! The inventory with its ledger, and what would be there without it.

use anyhow::Result;
use pg_test::Database;
use pg_test::bench::demand::ITEMS;
use pg_test::bench::{Options, ledger};

/// Tenants of the protected one.
pub const TENANTS: u32 = 10;

/// `hot` and `shops` are registered; `by_hand` and `ledger`, of the same columns, keys and rows, are the rivals'.
pub fn make(database: &Database, options: &Options) -> Result<()> {
    database.admin(&format!(
        "SET ROLE owner;
         CREATE TABLE hot (id text PRIMARY KEY, quantity bigint NOT NULL CHECK (quantity >= 0));
         CREATE TABLE by_hand (LIKE hot INCLUDING ALL);
         CREATE TABLE shops (tenant_id text NOT NULL, id text NOT NULL, quantity bigint NOT NULL CHECK (quantity >= 0), PRIMARY KEY (tenant_id, id));
         INSERT INTO hot SELECT 'item ' || n, 1000000000 FROM generate_series(1, {ITEMS}) n;
         INSERT INTO by_hand SELECT * FROM hot;
         INSERT INTO shops SELECT 'shop ' || n, 'item 1', 1000000000 FROM generate_series(1, {TENANTS}) n;
         SELECT bulkhead.protect('shops');
         SELECT bulkhead.register_inventory('hot'), bulkhead.register_inventory('shops');
         RESET ROLE;"
    ))?;
    ledger::fill(database, options.pick(1_000_000, 20_000))
}
