//! bulkhead.metrics: Prometheus' rules, numbers that are right, nobody's names.

use std::collections::{BTreeMap, BTreeSet};

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{TENANT, forget, monitor, until, world};
use crate::harness::{WithWorkers, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        every_row_is_one_that_prometheus_takes,
        every_room_has_numbers,
        refusals_and_bypasses_are_counted,
        batches_are_counted,
        a_queue_that_is_drained_is_counted,
        a_long_queue_is_estimated => 240,
        what_failed_to_be_maintained_shows,
        only_monitors_read,
        without_the_preload_the_rest_is_there,
    ]
}

async fn number(client: &Client, name: &str, label: &str) -> f64 {
    let sql = format!(
        "SELECT value FROM bulkhead.metrics WHERE name = '{name}' AND (labels = '{{}}' OR '{label}' IN (SELECT value FROM jsonb_each_text(labels)))"
    );
    let values = client.column(&sql).await;
    assert_eq!(values.len(), 1, "{name} {label}: {values:?}");
    values[0].parse().unwrap()
}

async fn every_row_is_one_that_prometheus_takes(db: WithWorkers) {
    let owner = world(&db).await;
    owner.run("SELECT * FROM bulkhead.decrement_now('stock', 'o-1', 'a', 1)").await;
    let (role, client) = monitor(&db).await;
    let rows = client.rows("SELECT name, labels::text, value::text, help FROM bulkhead.metrics").await;
    let (mut helps, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for row in &rows {
        let [name, labels, value, help] = row.as_slice() else { panic!("{row:?}") };
        let plain = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(name.starts_with("bulkhead_") && plain(name) && !name.ends_with('_'), "{name}");
        assert!(value.parse::<f64>().unwrap().is_finite() && !value.starts_with('-'), "{row:?}");
        assert!(!help.contains('\n') && help.ends_with('.') && help.is_ascii(), "{help:?}");
        assert_eq!(*helps.entry(name.clone()).or_insert(help.clone()), *help, "{name} has two helps");
        let parsed: serde_json::Value = serde_json::from_str(labels).unwrap();
        for (label, value) in parsed.as_object().expect("labels are an object") {
            assert!(plain(label) && value.is_string(), "{labels}");
        }
        assert!(!labels.contains(TENANT), "{labels}");
        assert!(seen.insert((name.clone(), labels.clone())), "{name} {labels} is there twice");
        // What grows says so, and only that.
        let grows = help.contains("since the server started");
        assert_eq!(name.ends_with("_total"), grows, "{name}: {help}");
        // One set of labels a name.
        let keys: Vec<_> = parsed.as_object().unwrap().keys().cloned().collect();
        assert_eq!(*helps.entry(format!("{name} labels")).or_insert(keys.join(",")), keys.join(","), "{name}");
    }
    assert!(rows.len() > 40, "{rows:?}");
    drop(client);
    forget(&db, &role);
}

async fn every_room_has_numbers(db: WithWorkers) {
    let owner = world(&db).await;
    assert_eq!(owner.one("SELECT verdict FROM bulkhead.decrement_now('stock', 'o-1', 'a', 1)").await, "accepted");
    let (role, client) = monitor(&db).await;
    let events = "public.events";
    // Rows that a session tells the server's statistics of after another's ANALYZE has counted them are in there twice.
    until("the statistics are right", async || {
        owner.run("ANALYZE events").await;
        number(&client, "bulkhead_partition_rows", events).await == 1000.0
    })
    .await;
    assert_eq!(number(&client, "bulkhead_seal_active", "").await, 1.0);
    assert_eq!(number(&client, "bulkhead_protected_tables", "").await, 1.0);
    assert_eq!(number(&client, "bulkhead_partitions", events).await, 4.0);
    assert!(number(&client, "bulkhead_partition_bytes", events).await > 8192.0);
    let runway = number(&client, "bulkhead_partition_runway_seconds", events).await / 86_400.0;
    assert!((3.0..=4.0).contains(&runway), "{runway}");
    assert!(number(&client, "bulkhead_partition_oldest_seconds", events).await <= 86_400.0);
    assert!(number(&client, "bulkhead_maintenance_age_seconds", events).await < 60.0);
    assert_eq!(number(&client, "bulkhead_maintenance_failures", events).await, 0.0);
    assert_eq!(number(&client, "bulkhead_partition_rows", "bulkhead.idempotency_key").await, 1.0);
    assert_eq!(number(&client, "bulkhead_queue_orders", "public.stock").await, 0.0);
    assert_eq!(number(&client, "bulkhead_scoring_pending_rows", "public.leads").await, 5.0);
    assert!(number(&client, "bulkhead_scoring_idle_seconds", "public.leads").await < 60.0);
    assert_eq!(number(&client, "bulkhead_worker_running", "").await, 1.0);
    assert_eq!(number(&client, "bulkhead_launcher_running", "").await, 1.0);
    assert_eq!(number(&client, "bulkhead_health_ok", "runway").await, 1.0);
    // The board is the whole server's, and other tests write on it too.
    db.connect("app").await.run("SELECT * FROM watched").await;
    assert!(number(&client, "bulkhead_observe_places", "used").await >= 1.0);
    owner.run("SELECT bulkhead.hold_partition(min(inhrelid)::regclass, 'x') FROM pg_inherits WHERE inhparent = 'events'::regclass").await;
    assert_eq!(number(&client, "bulkhead_partitions_held", events).await, 1.0);
    drop(client);
    forget(&db, &role);
}

async fn refusals_and_bypasses_are_counted(db: Database) {
    world(&db).await;
    let (client, app) = (db.connect("postgres").await, db.connect("app").await);
    let refusals = async |reason: &str| number(&client, "bulkhead_refusals_total", reason).await;
    assert_eq!((refusals("no_tenant").await, refusals("other_tenant").await, refusals("token").await), (0.0, 0.0, 0.0));
    app.refused("SELECT * FROM orders").await.state("42501");
    app.refused("SELECT bulkhead.require_tenant()").await.state("42501");
    app.refused("SELECT bulkhead.idempotency_claim('x')").await.state("42501");
    app.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{TENANT}'; SELECT count(*) FROM orders")).await;
    app.refused("SET LOCAL bulkhead.tenant_context = 'b'").await.state("42501");
    app.run("ROLLBACK").await;
    app.refused("SET bulkhead.tenant_context = 'eyJhbGciOiJIUzI1NiJ9.e30.x'").await.state("28000");
    assert_eq!((refusals("no_tenant").await, refusals("other_tenant").await, refusals("token").await), (3.0, 1.0, 1.0));
    // What made this database was past the seal, too.
    let before = number(&client, "bulkhead_bypasses_total", "").await;
    client.run("BEGIN; SELECT bulkhead.begin_bypass('look'); SELECT count(*) FROM orders; COMMIT").await;
    assert_eq!(number(&client, "bulkhead_bypasses_total", "").await, before + 1.0);
    // Another database counts for itself.
    let other = db.cluster.database("elsewhere").unwrap();
    assert_eq!(number(&other.connect("postgres").await, "bulkhead_refusals_total", "no_tenant").await, 0.0);
    other.drop().unwrap();
}

async fn batches_are_counted(db: WithWorkers) {
    let owner = world(&db).await;
    for order in 0..3 {
        owner.run(&format!("SELECT * FROM bulkhead.decrement_now('stock', 'o-{order}', 'a', 1)")).await;
    }
    let client = db.connect("postgres").await;
    assert_eq!(number(&client, "bulkhead_group_commit_orders_total", "").await, 3.0);
    // An order that meets a lock for a moment is taken once more.
    assert!(number(&client, "bulkhead_group_commit_batches_total", "").await >= 3.0);
    let slots = client.column("SELECT value FROM bulkhead.metrics WHERE name = 'bulkhead_group_commit_slots'").await;
    assert_eq!(slots.len(), 3);
    let all: f64 = slots.iter().map(|slots| slots.parse::<f64>().unwrap()).sum();
    let wanted =
        client.one("SELECT current_setting('max_connections')::int + current_setting('max_worker_processes')::int");
    assert_eq!(all.to_string(), wanted.await);
}

async fn a_queue_that_is_drained_is_counted(db: WithWorkers) {
    let owner = world(&db).await;
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'q-' || g, 'a', 1) FROM generate_series(1, 5) g").await;
    let client = db.connect("postgres").await;
    until("drained", async || number(&client, "bulkhead_queue_drained_total", "").await == 5.0).await;
}

async fn a_long_queue_is_estimated(db: Database) {
    let owner = world(&db).await;
    let client = db.connect("postgres").await;
    assert_eq!(number(&client, "bulkhead_queue_orders", "public.stock").await, 0.0);
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'few-' || g, 'a', 1) FROM generate_series(1, 3) g").await;
    assert_eq!(number(&client, "bulkhead_queue_orders", "public.stock").await, 3.0);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let oldest = number(&client, "bulkhead_queue_oldest_seconds", "public.stock").await;
    assert!((0.05..60.0).contains(&oldest), "{oldest}");
    // Some eight to a page, so there are more pages than are read.
    owner
        .run(
            "SELECT bulkhead.enqueue_decrement('stock', 'many-' || g, array_fill(repeat('x', 80), ARRAY[10]), array_fill(1::bigint, ARRAY[10]))
               FROM generate_series(1, 20000) g",
        )
        .await;
    let pages =
        db.admin("SELECT max(pg_relation_size('bulkhead.inventory_queue_' || g)) / 8192 FROM generate_series(0, 3) g");
    assert!(pages.unwrap().trim().parse::<i64>().unwrap() > 1500, "the queue is long enough to be sampled");
    let estimate = number(&client, "bulkhead_queue_orders", "public.stock").await;
    assert!((19_000.0..21_000.0).contains(&estimate), "{estimate}");
    assert!(number(&client, "bulkhead_queue_oldest_seconds", "public.stock").await >= oldest);
    // What nobody can decide is set aside.
    owner.run("ALTER TABLE stock ADD CONSTRAINT never CHECK (sku <> 'b') NOT VALID").await;
    owner.run("SELECT bulkhead.enqueue_decrement('stock', 'bad', 'b', 1)").await;
    db.admin("CALL bulkhead.drain_inventory('stock', 5000)").unwrap();
    assert_eq!(number(&client, "bulkhead_queue_poisoned_orders", "public.stock").await, 1.0);
    assert_eq!(number(&client, "bulkhead_queue_orders", "public.stock").await, 0.0);
    // A table that is gone is not named by what it was.
    owner.run("DROP TABLE stock").await;
    assert_eq!(number(&client, "bulkhead_queue_poisoned_orders", "(dropped)").await, 1.0);
    // Two such tables are one row: a scraper refuses two with the same labels, and all others with them.
    owner
        .run(
            "CREATE TABLE other (sku text PRIMARY KEY, pieces integer NOT NULL CHECK (sku <> 'b'));
             SELECT bulkhead.register_inventory('other', 'sku', 'pieces');
             SELECT bulkhead.enqueue_decrement('other', 'waits', 'a', 1);
             DROP TABLE other",
        )
        .await;
    let twice = "SELECT count(*) FROM (SELECT FROM bulkhead.metrics GROUP BY name, labels HAVING count(*) > 1) t";
    assert_eq!(client.one(twice).await, "0");
    assert!(client.one("SELECT count(*) FROM bulkhead.metrics WHERE labels ->> 'table' = '(dropped)'").await != "0");
}

async fn what_failed_to_be_maintained_shows(db: Database) {
    world(&db).await;
    let client = db.connect("postgres").await;
    let failures = "INSERT INTO bulkhead.maintenance_log (at, parent, action, ok, lock_wait, duration)
                    SELECT clock_timestamp() - a, 'public.events', 'drop', false, '0', '0' FROM unnest('{1 min,2 min,2 hours}'::interval[]) a";
    db.admin(failures).unwrap();
    assert_eq!(number(&client, "bulkhead_maintenance_failures", "public.events").await, 2.0);
    assert_eq!(number(&client, "bulkhead_maintenance_failures", "bulkhead.idempotency_key").await, 0.0);
    // Another's DEFAULT partition makes a table unmanageable: one check says so, and no number is lost.
    db.connect("owner").await.run("CREATE TABLE stray PARTITION OF events DEFAULT").await;
    assert_eq!(number(&client, "bulkhead_health_ok", "runway").await, 0.0);
    assert_eq!(number(&client, "bulkhead_partitions", "bulkhead.idempotency_key").await, 4.0);
}

async fn only_monitors_read(db: Database) {
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        client.refused("SELECT * FROM bulkhead.metrics").await.state("42501");
        client.refused("SELECT * FROM bulkhead.read_metrics()").await.state("42501");
    }
    let (role, client) = monitor(&db).await;
    client.run("SELECT * FROM bulkhead.metrics; BEGIN READ ONLY; SELECT * FROM bulkhead.metrics; COMMIT").await;
    // Rows of tenants are nobody's to read all the same.
    client.refused("SELECT * FROM bulkhead.inventory_queue_0").await.state("42501");
    drop(client);
    forget(&db, &role);
}

async fn without_the_preload_the_rest_is_there(db: WithoutPreload) {
    db.connect("owner")
        .await
        .run("CREATE TABLE orders (id int, tenant_id uuid); SELECT bulkhead.protect('orders')")
        .await;
    let client = db.connect("postgres").await;
    assert_eq!(number(&client, "bulkhead_seal_active", "").await, 0.0);
    assert_eq!(number(&client, "bulkhead_protected_tables", "").await, 1.0);
    assert_eq!(number(&client, "bulkhead_health_ok", "seal").await, 0.0);
    assert_eq!(number(&client, "bulkhead_health_ok", "worker").await, 1.0);
    let shared = "SELECT count(*) FROM bulkhead.metrics WHERE name LIKE ANY ('{bulkhead_group%,bulkhead_refusals%,bulkhead_worker%}')";
    assert_eq!(client.one(shared).await, "0");
}
