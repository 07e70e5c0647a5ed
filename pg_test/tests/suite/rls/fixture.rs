//! What these tests stand on: a table with rows of two tenants, sessions that act for one, a picture of the catalogs.

use pg_test::{Client, Database};

pub use crate::fixture::{act_for, acting};

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// The ids of the orders of each tenant.
pub const OF_A: [&str; 3] = ["1", "2", "3"];
pub const OF_B: [&str; 2] = ["4", "5"];
pub const NOTHING: [&str; 0] = [];
pub const NO_ROWS: [[&str; 0]; 0] = [];

/// `orders(id, tenant_id uuid, item)`, not protected: 1, 2 and 3 are A's, 4 and 5 are B's. Returns its owner.
pub async fn bare_orders(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    fill_orders(&owner).await;
    owner
}

/// The same in the first schema of the session's search path.
pub async fn fill_orders(owner: &Client) {
    let rows = format!(
        "SELECT i, CASE WHEN i <= 3 THEN '{A}' ELSE '{B}' END::uuid, 'item ' || i FROM generate_series(1, 5) i"
    );
    owner
        .run(&format!("CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, item text); INSERT INTO orders {rows}"))
        .await;
}

/// The same, protected.
pub async fn orders(db: &Database) -> Client {
    let owner = bare_orders(db).await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    owner
}

/// `bare_orders`; its owner is past the seal, and so may take a table out of it. Row level security binds that session as any.
pub async fn bare_orders_past_the_seal(db: &Database) -> Client {
    let owner = db.past_the_seal("owner").await;
    fill_orders(&owner).await;
    owner
}

/// `orders`, likewise.
pub async fn orders_past_the_seal(db: &Database) -> Client {
    let owner = bare_orders_past_the_seal(db).await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    owner
}

/// The ids of the orders that the session sees.
pub async fn seen(client: &Client) -> Vec<String> {
    client.column("SELECT id FROM orders ORDER BY id").await
}

/// What `app` sees of a table's column when it acts for the tenant.
pub async fn seen_by(db: &Database, tenant: &str, table: &str, column: &str) -> Vec<String> {
    let app = acting(db, "app", tenant).await;
    app.column(&format!("SELECT {column} FROM {table} ORDER BY 1")).await
}

/// Everything about the table and what inherits from it that protect() may change, a fact a line.
pub async fn picture(client: &Client, table: &str) -> Vec<String> {
    let table = table.replace('\'', "''");
    client
        .column(&format!(
            "WITH RECURSIVE tree(oid) AS (
               SELECT '{table}'::regclass::oid
               UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
             SELECT format('%s rls %s forced %s acl %s', c.oid::regclass, relrowsecurity, relforcerowsecurity, relacl)
               FROM tree JOIN pg_class c ON c.oid = tree.oid
             UNION ALL
             SELECT format('%s policy %s %s %s %s using %s check %s', polrelid::regclass, polname, polcmd, polpermissive,
                           polroles, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
               FROM tree JOIN pg_policy ON polrelid = tree.oid
             UNION ALL
             SELECT format('%s column %s not null %s identity %s generated %s default %s', a.attrelid::regclass, attname,
                           attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid))
               FROM tree JOIN pg_attribute a ON a.attrelid = tree.oid
               LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
              WHERE attnum > 0 AND NOT attisdropped
             UNION ALL
             SELECT format('%s valid %s', pg_get_indexdef(indexrelid), indisvalid)
               FROM tree JOIN pg_index ON indrelid = tree.oid
             UNION ALL
             SELECT format('%s constraint %s %s', conrelid::regclass, conname, pg_get_constraintdef(c.oid))
               FROM tree JOIN pg_constraint c ON conrelid = tree.oid
             UNION ALL
             SELECT format('%s trigger %s', tgrelid::regclass, tgname) FROM tree JOIN pg_trigger ON tgrelid = tree.oid
             ORDER BY 1"
        ))
        .await
}

/// Panics with the lines that differ unless the two pictures are the same.
#[track_caller]
pub fn assert_same(now: &[String], before: &[String], what: &str) {
    let gone: Vec<_> = before.iter().filter(|fact| !now.contains(fact)).collect();
    let new: Vec<_> = now.iter().filter(|fact| !before.contains(fact)).collect();
    assert!(gone.is_empty() && new.is_empty(), "{what}\n  gone: {gone:#?}\n  new: {new:#?}");
}

/// What is registered: table, tenant column, type, shared.
pub async fn registered(client: &Client) -> Vec<Vec<String>> {
    client
        .rows(
            "SELECT relation, tenant_column, tenant_type, shared FROM bulkhead.protected_tables
              ORDER BY relation::text COLLATE \"C\"",
        )
        .await
}
