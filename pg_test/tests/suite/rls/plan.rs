//! protect_plan(): the way of a table that is in use.

use libtest_mimic::Trial;
use pg_test::{Client, Database};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fixture::{
    A, B, NOTHING, OF_A, OF_B, assert_same, bare_orders, bare_orders_past_the_seal, orders, picture, registered,
    seen_by,
};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        the_plan_of_a_bare_table,
        a_plan_changes_nothing,
        a_protected_tables_plan_is_only_the_call,
        what_is_there_is_not_planned,
        a_plan_runs_while_others_insert,
        after_the_plan_only_catalog_work_is_left,
        a_partitioned_tables_plan_runs,
        a_partly_indexed_partitioned_tables_plan_runs,
        a_multi_level_partitioned_tables_plan_runs,
        an_empty_partitioned_tables_plan_runs,
        an_inheritance_trees_plan_runs,
        nulls_fail_at_the_validation,
        a_plan_that_stopped_halfway_is_made_anew,
        an_invalid_index_is_not_taken_for_one,
    ]
}

async fn plan(owner: &Client, table: &str) -> Vec<String> {
    owner.column(&format!("SELECT bulkhead.protect_plan('{table}')")).await
}

/// As a person would, one statement after the other, each by itself.
async fn follow(owner: &Client, statements: &[String]) {
    for statement in statements {
        owner.run(statement).await;
    }
}

async fn the_plan_of_a_bare_table(db: Database) {
    let owner = bare_orders(&db).await;
    assert_eq!(
        plan(&owner, "orders").await,
        [
            "CREATE INDEX CONCURRENTLY ON public.orders (tenant_id)",
            "ALTER TABLE public.orders ADD CONSTRAINT bulkhead_not_null CHECK (tenant_id IS NOT NULL) NOT VALID",
            "ALTER TABLE public.orders VALIDATE CONSTRAINT bulkhead_not_null",
            "ALTER TABLE public.orders ALTER COLUMN tenant_id SET NOT NULL",
            "ALTER TABLE public.orders DROP CONSTRAINT bulkhead_not_null",
            "SELECT bulkhead.protect('public.orders', 'tenant_id')",
        ]
    );
    follow(&owner, &plan(&owner, "orders").await).await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
    assert_eq!(seen_by(&db, B, "orders", "id").await, OF_B);
}

async fn a_plan_changes_nothing(db: Database) {
    let owner = bare_orders(&db).await;
    let before = picture(&owner, "orders").await;
    owner.run("BEGIN READ ONLY").await;
    assert!(!plan(&owner, "orders").await.is_empty());
    let locks = "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'orders'::regclass
                  AND mode <> 'AccessShareLock'";
    assert_eq!(owner.column(locks).await, NOTHING);
    owner.run("COMMIT").await;
    assert_same(&picture(&owner, "orders").await, &before, "orders");
}

async fn a_protected_tables_plan_is_only_the_call(db: Database) {
    let owner = orders(&db).await;
    assert_eq!(plan(&owner, "orders").await, ["SELECT bulkhead.protect('public.orders', 'tenant_id')"]);
}

async fn what_is_there_is_not_planned(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("ALTER TABLE orders ALTER tenant_id SET NOT NULL").await;
    assert_eq!(plan(&owner, "orders").await.len(), 2);
    owner.run("CREATE INDEX ON orders (tenant_id, item)").await;
    assert_eq!(plan(&owner, "orders").await.len(), 1);
    owner.run("ALTER TABLE orders ALTER tenant_id DROP NOT NULL").await;
    assert!(plan(&owner, "orders").await.iter().all(|statement| !statement.contains("INDEX")));
}

/// Inserts through four sessions, each for a tenant of its own, until told to stop; the number of rows that went in.
struct Traffic {
    stop: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    async fn start(db: &Database, table: &str) -> Self {
        let (stop, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for (number, tenant) in [A, B, A, B].into_iter().enumerate() {
            let client = db.connect("app").await;
            let (stop, rows) = (Arc::clone(&stop), Arc::clone(&rows));
            let table = table.to_owned();
            tasks.push(tokio::spawn(async move {
                let mut id = 1000 + number;
                while !stop.load(Ordering::Relaxed) {
                    let sql = format!(
                        "BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}';
                         INSERT INTO {table} (id, tenant_id) VALUES ({id}, '{tenant}'); COMMIT"
                    );
                    client.run(&sql).await;
                    rows.fetch_add(1, Ordering::Relaxed);
                    id += 4;
                }
            }));
        }
        Self { stop, rows, tasks }
    }

    /// Until every session has inserted a few more rows.
    async fn go_on(&self) {
        let target = self.rows.load(Ordering::Relaxed) + 8;
        while self.rows.load(Ordering::Relaxed) < target && self.tasks.iter().all(|task| !task.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Panics when one of the inserts failed.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.rows.load(Ordering::Relaxed)
    }
}

async fn a_plan_runs_while_others_insert(db: Database) {
    let owner = bare_orders(&db).await;
    let traffic = Traffic::start(&db, "orders").await;
    for statement in plan(&owner, "orders").await {
        traffic.go_on().await;
        owner.run(&statement).await;
    }
    traffic.go_on().await;
    let inserted = traffic.end().await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders')").await, NOTHING);
    let of = async |tenant| seen_by(&db, tenant, "orders", "count(*)").await[0].parse::<u64>().unwrap();
    assert_eq!(of(A).await + of(B).await, inserted + 5);
    assert!(inserted >= 7 * 8, "{inserted} rows are no traffic");
}

async fn after_the_plan_only_catalog_work_is_left(db: Database) {
    let owner = bare_orders(&db).await;
    let statements = plan(&owner, "orders").await;
    let (last, before) = statements.split_last().unwrap();
    follow(&owner, before).await;
    let file = "SELECT relfilenode FROM pg_class WHERE oid = 'orders'::regclass";
    let former = owner.one(file).await;
    let done = owner.column(last).await;
    let scans = ["INDEX", "NOT NULL", "CONSTRAINT", "UPDATE"];
    assert!(done.iter().all(|line| scans.iter().all(|scan| !line.contains(scan))), "{done:?}");
    assert_eq!(owner.one(file).await, former);
}

/// Rows of both tenants in `parent`, whose partitions go by `id`.
async fn fill(owner: &Client) {
    owner
        .run(&format!(
            "INSERT INTO parent SELECT i, CASE WHEN i % 2 = 0 THEN '{A}' ELSE '{B}' END::uuid FROM generate_series(1, 20) i"
        ))
        .await;
}

/// The plan runs to its end, and every table of the tree is isolated and indexed.
async fn runs(db: &Database, owner: &Client, rows_of_a: usize) {
    let statements = plan(owner, "parent").await;
    let traffic = Traffic::start(db, "parent").await;
    for statement in &statements {
        traffic.go_on().await;
        owner.run(statement).await;
    }
    let inserted = traffic.end().await;
    assert!(inserted > 0);
    assert_eq!(owner.column("SELECT bulkhead.protect('parent')").await, NOTHING);
    let old = "(SELECT * FROM parent WHERE id < 1000) t";
    assert_eq!(seen_by(db, A, old, "id").await.len(), rows_of_a);
    let invalid = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid";
    assert_eq!(owner.column(invalid).await, NOTHING);
    let bare = "WITH RECURSIVE tree(oid) AS (
                  SELECT 'parent'::regclass::oid
                  UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree t ON i.inhparent = t.oid)
                SELECT tree.oid::regclass FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r' AND NOT EXISTS
                  (SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
                    WHERE x.indrelid = tree.oid AND a.attname = 'tenant_id')";
    assert_eq!(owner.column(bare).await, NOTHING);
}

async fn a_partitioned_tables_plan_runs(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE SCHEMA \"Other.place\"; GRANT USAGE ON SCHEMA \"Other.place\" TO app;
             CREATE TABLE parent (id int, tenant_id uuid) PARTITION BY RANGE (id);
             CREATE TABLE one PARTITION OF parent FOR VALUES FROM (0) TO (10);
             CREATE TABLE \"Other.place\".\"Two;\" PARTITION OF parent FOR VALUES FROM (10) TO (1000);
             CREATE TABLE rest PARTITION OF parent DEFAULT",
        )
        .await;
    fill(&owner).await;
    runs(&db, &owner, 10).await;
}

async fn a_partly_indexed_partitioned_tables_plan_runs(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE parent (id int, tenant_id uuid) PARTITION BY RANGE (id);
             CREATE TABLE one PARTITION OF parent FOR VALUES FROM (0) TO (10);
             CREATE TABLE two PARTITION OF parent DEFAULT;
             CREATE INDEX ON one (tenant_id)",
        )
        .await;
    fill(&owner).await;
    runs(&db, &owner, 10).await;
}

async fn a_multi_level_partitioned_tables_plan_runs(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE parent (id int, tenant_id uuid) PARTITION BY RANGE (id);
             CREATE TABLE one PARTITION OF parent FOR VALUES FROM (0) TO (10) PARTITION BY HASH (id);
             CREATE TABLE one_a PARTITION OF one FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE one_b PARTITION OF one FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             CREATE TABLE two PARTITION OF parent DEFAULT",
        )
        .await;
    fill(&owner).await;
    runs(&db, &owner, 10).await;
}

async fn an_empty_partitioned_tables_plan_runs(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE parent (id int, tenant_id uuid) PARTITION BY RANGE (id)").await;
    follow(&owner, &plan(&owner, "parent").await).await;
    assert_eq!(owner.column("SELECT bulkhead.protect('parent')").await, NOTHING);
    owner.run("CREATE TABLE one PARTITION OF parent DEFAULT; SET bulkhead.tenant_context = 'x'").await;
    assert_eq!(registered(&owner).await.len(), 2);
    let indexed = "SELECT count(*) FROM pg_index WHERE indrelid = 'one'::regclass AND indisvalid";
    assert_eq!(owner.one(indexed).await, "1");
}

async fn an_inheritance_trees_plan_runs(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run("CREATE TABLE parent (id int, tenant_id uuid); CREATE TABLE one () INHERITS (parent); CREATE TABLE two () INHERITS (one)")
        .await;
    fill(&owner).await;
    owner.run(&format!("INSERT INTO one VALUES (21, '{A}'); INSERT INTO two VALUES (22, '{A}'), (23, '{B}')")).await;
    runs(&db, &owner, 12).await;
}

async fn nulls_fail_at_the_validation(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("INSERT INTO orders VALUES (6)").await;
    let statements = plan(&owner, "orders").await;
    follow(&owner, &statements[..2]).await;
    // From here on no further row comes in without a tenant, while the old one waits to be dealt with.
    let refused = db.connect("app").await.refused("INSERT INTO orders VALUES (7)").await;
    refused.state("23514").message_contains("bulkhead_not_null");
    assert!(statements[2].contains("VALIDATE"), "{statements:?}");
    owner.refused(&statements[2]).await.state("23514").message_contains("\"bulkhead_not_null\" of relation \"orders\"");
    owner.run(&format!("UPDATE orders SET tenant_id = '{A}' WHERE id = 6")).await;
    follow(&owner, &statements[2..]).await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1", "2", "3", "6"]);
}

async fn a_plan_that_stopped_halfway_is_made_anew(db: Database) {
    let owner = bare_orders_past_the_seal(&db).await;
    let bare = picture(&owner, "orders").await;
    owner.run("BEGIN; SELECT bulkhead.protect('orders')").await;
    let protected = picture(&owner, "orders").await;
    owner.run("ROLLBACK").await;
    let whole = plan(&owner, "orders").await;
    for stop in 0..whole.len() {
        follow(&owner, &whole[..stop]).await;
        follow(&owner, &plan(&owner, "orders").await).await;
        assert_same(&picture(&owner, "orders").await, &protected, &format!("stopped before {}", whole[stop]));
        let back = "SELECT bulkhead.unprotect('orders'); DROP INDEX IF EXISTS orders_tenant_id_idx; ALTER TABLE orders ALTER tenant_id DROP NOT NULL";
        owner.run(back).await;
        assert_same(&picture(&owner, "orders").await, &bare, "orders");
    }
}

async fn an_invalid_index_is_not_taken_for_one(db: Database) {
    let owner = bare_orders(&db).await;
    owner.refused("CREATE UNIQUE INDEX CONCURRENTLY i ON orders (tenant_id)").await.state("23505");
    let statements = plan(&owner, "orders").await;
    assert!(
        statements.contains(&"CREATE INDEX CONCURRENTLY ON public.orders (tenant_id)".to_owned()),
        "{statements:?}"
    );
    follow(&owner, &statements).await;
    let valid = "SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass AND indkey[0] = 2 AND indisvalid";
    assert_eq!(owner.one(valid).await, "1");
}
