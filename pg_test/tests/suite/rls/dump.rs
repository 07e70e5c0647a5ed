//! pg_dump and pg_restore: everything that protects comes back, in a database that numbers its tables and columns anew.

use libtest_mimic::Trial;
use pg_test::{Client, Database};
use std::process::{Command, Output, Stdio};

use crate::harness::WithoutPreload;

use super::fixture::{A, B, NOTHING, OF_A, act_for, acting, assert_same, orders, picture, registered};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_plain_dump_restores,
        a_custom_dump_restores,
        a_parallel_directory_dump_restores,
        a_dump_of_a_restored_database_restores,
        a_schema_dump_and_a_data_dump_restore,
        a_dropped_column_before_the_border_does_not_shift_it,
        a_renamed_border_is_restored_under_its_name,
        a_partitioned_table_restores,
        an_inheritance_tree_restores,
        a_shared_table_restores,
        hostile_names_restore,
        own_policies_restore,
        a_restored_table_unprotects_to_its_earlier_state,
        a_restored_registry_follows_renames,
        a_data_only_dump_restores_into_a_protected_schema,
        a_dump_by_a_bound_role_is_refused,
        a_dump_without_a_bypass_is_refused,
        a_dump_is_recorded,
        where_nothing_is_sealed_a_dump_needs_no_bypass,
        nothing_is_left_over_in_the_registry,
    ]
}

fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{command:?}\n{errors}");
    output.stdout
}

/// pg_dump as a superuser past the seal, as the documentation has it.
fn pg_dump(db: &Database) -> Command {
    let mut command = db.client_program("pg_dump", "postgres");
    command.env("PGOPTIONS", "-c bulkhead.bypass=backup");
    command
}

/// Runs a dumped script as a superuser without a bypass.
fn restore(into: &Database, script: &[u8]) -> Output {
    let path = std::env::temp_dir().join(format!("{}.{}.sql", into.name, std::process::id()));
    std::fs::write(&path, script).unwrap();
    let mut command = into.client_program("psql", "postgres");
    let output = command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    output
}

/// The database as a plain dump, restored by psql into a new one that was empty.
fn through_psql(db: &Database) -> Database {
    let script = succeed(&mut pg_dump(db));
    let restored = db.cluster.empty_database("restored").unwrap();
    let output = restore(&restored, &script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    restored
}

/// The same with an archive and pg_restore.
fn through_archive(db: &Database, format: &str, restore: &[&str]) -> Database {
    let path = std::env::temp_dir().join(format!("{}.{}.dump", db.name, std::process::id()));
    succeed(pg_dump(db).args(["--format", format, "--file"]).arg(&path));
    let restored = db.cluster.empty_database("restored").unwrap();
    let mut command = restored.client_program("pg_restore", "postgres");
    succeed(
        command.args(["--exit-on-error", "--dbname", &restored.name]).args(restore).arg(&path).stdin(Stdio::null()),
    );
    std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path)).unwrap();
    restored
}

/// `orders` is whole and isolated, for a naked role too, and protect() finds nothing to do.
async fn assert_orders_are_protected(restored: &Database) {
    for role in ["app", "owner"] {
        let client = restored.connect(role).await;
        let naked = client.refused("TABLE orders").await;
        naked.state("42501").message("no tenant context for protected table public.orders");
        act_for(&client, A).await;
        assert_eq!(client.column("SELECT id FROM orders ORDER BY id").await, OF_A, "{role}");
        client.refused(&format!("INSERT INTO orders (id, tenant_id) VALUES (6, '{B}')")).await.state("42501");
        client.run("BEGIN; INSERT INTO orders (id) VALUES (6); ROLLBACK").await;
        act_for(&client, B).await;
        assert_eq!(client.one("SELECT count(*) FROM orders").await, "2", "{role}");
    }
    let owner = restored.connect("owner").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
    assert_eq!(registered(&owner).await, [["orders", "tenant_id", "uuid", "f"]]);
}

async fn ends(restored: Database) {
    restored.drop().unwrap();
}

async fn a_plain_dump_restores(db: Database) {
    let owner = orders(&db).await;
    let before = picture(&owner, "orders").await;
    let restored = through_psql(&db);
    assert_orders_are_protected(&restored).await;
    assert_same(&picture(&restored.connect("postgres").await, "orders").await, &before, "restored");
    ends(restored).await;
}

async fn a_custom_dump_restores(db: Database) {
    let owner = orders(&db).await;
    let before = picture(&owner, "orders").await;
    let restored = through_archive(&db, "custom", &[]);
    assert_orders_are_protected(&restored).await;
    assert_same(&picture(&restored.connect("postgres").await, "orders").await, &before, "restored");
    ends(restored).await;
}

async fn a_parallel_directory_dump_restores(db: Database) {
    orders(&db).await;
    let restored = through_archive(&db, "directory", &["--jobs", "4"]);
    assert_orders_are_protected(&restored).await;
    ends(restored).await;
}

async fn a_dump_of_a_restored_database_restores(db: Database) {
    orders(&db).await;
    let restored = through_psql(&db);
    let again = through_archive(&restored, "custom", &[]);
    assert_orders_are_protected(&again).await;
    ends(again).await;
    ends(restored).await;
}

async fn a_schema_dump_and_a_data_dump_restore(db: Database) {
    orders(&db).await;
    let restored = db.cluster.empty_database("restored").unwrap();
    let schema = succeed(pg_dump(&db).arg("--schema-only"));
    let output = restore(&restored, &schema);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The registry may come before the rows, so these need a bypass.
    let data = succeed(pg_dump(&db).arg("--data-only"));
    restored.admin(&String::from_utf8(data).unwrap()).unwrap();
    assert_orders_are_protected(&restored).await;
    ends(restored).await;
}

async fn a_dropped_column_before_the_border_does_not_shift_it(db: Database) {
    let owner = db.connect("owner").await;
    // Column 3 is the border here; in the restored table that is `amount`, whose type would fit another tenant.
    owner
        .run(&format!(
            "CREATE TABLE orders (gone int, id int, tenant_id uuid, amount bigint); ALTER TABLE orders DROP gone;
             INSERT INTO orders SELECT i, CASE WHEN i <= 3 THEN '{A}' ELSE '{B}' END::uuid, i FROM generate_series(1, 5) i;
             SELECT bulkhead.protect('orders')"
        ))
        .await;
    let number = "SELECT attnum FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'amount'";
    assert_eq!(db.admin(number).unwrap(), "4");
    let restored = through_psql(&db);
    assert_eq!(restored.admin(number).unwrap(), "3");
    assert_orders_are_protected(&restored).await;
    ends(restored).await;
}

async fn a_renamed_border_is_restored_under_its_name(db: Database) {
    let owner = orders(&db).await;
    owner.run("ALTER TABLE orders RENAME tenant_id TO org_id; ALTER TABLE orders ADD tenant_id uuid").await;
    let restored = through_psql(&db);
    let app = acting(&restored, "app", A).await;
    assert_eq!(app.column("SELECT id FROM orders ORDER BY id").await, OF_A);
    restored.connect("app").await.refused("TABLE orders").await.state("42501");
    assert_eq!(registered(&app).await, [["orders", "org_id", "uuid", "f"]]);
    let owner = restored.connect("owner").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders', 'org_id')").await, NOTHING);
    drop((app, owner));
    ends(restored).await;
}

/// Rows of `tree`, a partition or child of it named `below`, as tenant A and as nobody.
async fn assert_tree_is_protected(restored: &Database, tree: &[(&str, &[&str])]) {
    let app = acting(restored, "app", A).await;
    let naked = restored.connect("app").await;
    for (table, ids) in tree {
        assert_eq!(app.column(&format!("SELECT id FROM {table} ORDER BY id")).await, *ids, "{table}");
        naked.refused(&format!("TABLE {table}")).await.state("42501").message_contains(&format!("public.{table}"));
    }
    let owner = restored.connect("owner").await;
    let root = tree[0].0;
    assert_eq!(owner.column(&format!("SELECT bulkhead.protect('{root}')")).await, NOTHING);
    assert_eq!(registered(&owner).await.len(), tree.len());
}

async fn a_partitioned_table_restores(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE parent (id int, tenant_id uuid) PARTITION BY RANGE (id);
             CREATE TABLE old PARTITION OF parent FOR VALUES FROM (0) TO (10);
             CREATE TABLE twigs PARTITION OF parent FOR VALUES FROM (10) TO (100) PARTITION BY HASH (id);
             CREATE TABLE twig PARTITION OF twigs FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             INSERT INTO parent VALUES (1, '{A}'), (2, '{B}'), (11, '{A}'), (12, '{B}');
             SELECT bulkhead.protect('parent');
             CREATE TABLE late PARTITION OF parent DEFAULT"
        ))
        .await;
    let before = picture(&owner, "parent").await;
    for restored in [through_psql(&db), through_archive(&db, "custom", &[])] {
        let tree: [(&str, &[&str]); 5] =
            [("parent", &["1", "11"]), ("old", &["1"]), ("twigs", &["11"]), ("twig", &["11"]), ("late", &[])];
        assert_tree_is_protected(&restored, &tree).await;
        let admin = restored.connect("postgres").await;
        assert_same(&picture(&admin, "parent").await, &before, "restored");
        // And partitions that come from now on.
        let owner = restored.connect("owner").await;
        owner.run("CREATE TABLE later PARTITION OF parent FOR VALUES FROM (100) TO (200)").await;
        owner.refused("TABLE later").await.state("42501");
        drop((admin, owner));
        ends(restored).await;
    }
}

async fn an_inheritance_tree_restores(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE base (id int, tenant_id uuid); CREATE TABLE child (more int) INHERITS (base);
             INSERT INTO base VALUES (1, '{A}'), (2, '{B}'); INSERT INTO child VALUES (3, '{A}'), (4, '{B}');
             SELECT bulkhead.protect('base')"
        ))
        .await;
    let before = picture(&owner, "base").await;
    let restored = through_psql(&db);
    assert_tree_is_protected(&restored, &[("base", &["1", "3"]), ("child", &["3"])]).await;
    assert_same(&picture(&restored.connect("postgres").await, "base").await, &before, "restored");
    ends(restored).await;
}

async fn a_shared_table_restores(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE prices (sku text, cents int); INSERT INTO prices VALUES ('a', 1); SELECT bulkhead.share('prices')").await;
    let before = picture(&owner, "prices").await;
    let restored = through_psql(&db);
    let app = restored.connect("app").await;
    assert_eq!(app.column("SELECT sku FROM prices").await, ["a"]);
    app.refused("INSERT INTO prices VALUES ('b', 2)").await.state("42501");
    assert_eq!(registered(&app).await, [["prices", "NULL", "NULL", "t"]]);
    let owner = restored.connect("owner").await;
    assert_eq!(owner.column("SELECT bulkhead.share('prices')").await, NOTHING);
    assert_same(&picture(&owner, "prices").await, &before, "restored");
    owner.run("SELECT bulkhead.unprotect('prices')").await;
    app.run("INSERT INTO prices VALUES ('b', 2)").await;
    drop((app, owner));
    ends(restored).await;
}

async fn hostile_names_restore(db: Database) {
    let owner = db.connect("owner").await;
    let name = "\"Semi; \"\"quoted\"\" it's.größe\"";
    owner
        .run(&format!(
            "CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO app;
             CREATE TABLE {name}.{name} (id int, {name} text); GRANT SELECT ON {name}.{name} TO app;
             INSERT INTO {name}.{name} VALUES (1, 'h2o'), (2, 'H2O');
             SELECT bulkhead.protect('{0}.{0}', '{1}')",
            name.replace('\'', "''"),
            "Semi; \"quoted\" it''s.größe"
        ))
        .await;
    let restored = through_psql(&db);
    let app = acting(&restored, "app", "H2O").await;
    assert_eq!(app.column(&format!("SELECT id FROM {name}.{name}")).await, ["2"]);
    let naked = restored.connect("app").await.refused(&format!("TABLE {name}.{name}")).await;
    naked.state("42501").message(&format!("no tenant context for protected table {name}.{name}"));
    drop(app);
    ends(restored).await;
}

async fn own_policies_restore(db: Database) {
    let owner = super::fixture::bare_orders(&db).await;
    owner
        .run(
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
             CREATE POLICY odd ON orders USING (id % 2 = 1); CREATE POLICY few ON orders AS RESTRICTIVE USING (id < 4);
             SELECT bulkhead.protect('orders')",
        )
        .await;
    let restored = through_psql(&db);
    let app = acting(&restored, "app", A).await;
    assert_eq!(app.column("SELECT id FROM orders ORDER BY id").await, ["1", "3"]);
    let owner = restored.connect("owner").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
    drop((app, owner));
    ends(restored).await;
}

async fn a_restored_table_unprotects_to_its_earlier_state(db: Database) {
    let owner = super::fixture::bare_orders(&db).await;
    let bare = picture(&owner, "orders").await;
    owner.run("SELECT bulkhead.protect('orders')").await;
    let restored = through_psql(&db);
    let owner = restored.connect("owner").await;
    // The index stays: which one protect() made is remembered by its oid, which is another here.
    drop(owner);
    let owner = restored.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect_all(); DROP INDEX orders_tenant_id_idx").await;
    assert_same(&picture(&owner, "orders").await, &bare, "restored and unprotected");
    assert_eq!(restored.connect("app").await.one("SELECT count(*) FROM orders").await, "5");
    drop(owner);
    ends(restored).await;
}

async fn a_restored_registry_follows_renames(db: Database) {
    orders(&db).await;
    let restored = through_psql(&db);
    let owner: Client = restored.connect("owner").await;
    owner.run("ALTER TABLE orders RENAME tenant_id TO org_id; ALTER TABLE orders RENAME TO purchases").await;
    assert_eq!(registered(&owner).await, [["purchases", "org_id", "uuid", "f"]]);
    let refused = restored.connect("app").await.refused("TABLE purchases").await;
    refused.state("42501").message("no tenant context for protected table public.purchases");
    assert_eq!(owner.column("SELECT bulkhead.protect('purchases', 'org_id')").await, NOTHING);
    drop(owner);
    ends(restored).await;
}

async fn a_data_only_dump_restores_into_a_protected_schema(db: Database) {
    let owner = orders(&db).await;
    let dump = succeed(pg_dump(&db).args(["--data-only", "--table", "orders"]));
    owner.run(&format!("SET bulkhead.tenant_context = '{A}'; DELETE FROM orders")).await;
    owner.run(&format!("SET bulkhead.tenant_context = '{B}'; DELETE FROM orders")).await;
    let output = restore(&db, &dump);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "rows of all tenants came in without a bypass");
    assert!(errors.contains("no tenant context for protected table public.orders"), "{errors}");
    assert!(errors.contains("bulkhead.begin_bypass"), "{errors}");
    assert_eq!(db.admin("SELECT count(*) FROM orders").unwrap(), "0");
    db.admin(&String::from_utf8(dump).unwrap()).unwrap();
    assert_orders_are_protected(&db).await;
}

async fn a_dump_by_a_bound_role_is_refused(db: Database) {
    orders(&db).await;
    for role in ["owner", "app"] {
        // A bypass lifts the seal and not row level security, and only for whom it was granted to.
        db.admin(&format!("GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO {role}")).unwrap();
        let output = pg_dump(&db).env("PGUSER", role).args(["--table", "orders"]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains("row-level security"), "{role}: {errors}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("item 4"), "{role}");
    }
}

async fn a_dump_without_a_bypass_is_refused(db: Database) {
    orders(&db).await;
    for role in ["postgres", "svc", "owner", "app"] {
        for options in ["", "-c bulkhead.bypass=backup"] {
            if role == "postgres" && !options.is_empty() {
                continue;
            }
            let mut dump = db.client_program("pg_dump", role);
            let output = dump.env("PGOPTIONS", options).args(["--table", "orders"]).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{role} {options}");
            assert!(
                errors.contains("no tenant context for protected table public.orders"),
                "{role} {options}: {errors}"
            );
            assert!(!String::from_utf8_lossy(&output.stdout).contains("item 4"), "{role} {options}");
        }
    }
    let log = db.log();
    assert!(log.contains("or PGOPTIONS=\"-c bulkhead.bypass=why\" for pg_dump."), "{log}");
}

async fn a_dump_is_recorded(db: Database) {
    orders(&db).await;
    succeed(&mut pg_dump(&db));
    let log = db.log();
    let recorded = log.lines().find(|line| line.contains("bulkhead bypass by role \"postgres\""));
    let recorded = recorded.unwrap_or_else(|| panic!("{log}"));
    assert!(recorded.contains("application \"pg_dump\"") && recorded.contains("): backup; statement: "), "{recorded}");
}

async fn where_nothing_is_sealed_a_dump_needs_no_bypass(db: WithoutPreload) {
    orders(&db).await;
    let dump = succeed(&mut db.client_program("pg_dump", "postgres"));
    assert!(String::from_utf8_lossy(&dump).contains("item 4"));
}

async fn nothing_is_left_over_in_the_registry(db: Database) {
    let owner = orders(&db).await;
    owner.run("CREATE TABLE brief (tenant_id uuid); SELECT bulkhead.protect('brief'); DROP TABLE brief").await;
    owner.run("DROP TABLE orders").await;
    let restored = through_psql(&db);
    assert_eq!(restored.admin("SELECT count(*) FROM bulkhead.protection").unwrap(), "0");
    ends(restored).await;
}
