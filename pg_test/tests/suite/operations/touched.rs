//! What each call locks until its transaction ends, and which tables it writes: the page has it from here.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{TENANT, world};
use super::generated;

pub fn tests() -> Vec<Trial> {
    crate::tests![the_page_says_what_is_locked_and_written => 240]
}

/// Who calls, and what; each in a transaction that is rolled back.
const CALLS: [(&str, &str); 32] = [
    ("app", "SELECT count(*) FROM orders"),
    ("app", "INSERT INTO orders (id) VALUES (1)"),
    ("app", "SELECT bulkhead.tenant_id(), bulkhead.claims()"),
    ("app", "SELECT bulkhead.status()"),
    ("owner", "SELECT bulkhead.protect('plain')"),
    ("owner", "SELECT bulkhead.protect_plan('plain')"),
    ("owner", "SELECT bulkhead.share('plain')"),
    ("owner", "SELECT bulkhead.observe('plain')"),
    ("postgres", "SELECT bulkhead.begin_bypass('look')"),
    ("owner", "SELECT bulkhead.lint()"),
    ("app", "SELECT bulkhead.idempotency_claim('key-2')"),
    ("app", "SELECT bulkhead.idempotency_complete('key-1', 200, '{}')"),
    ("app", "SELECT bulkhead.idempotency_extend('key-1', '2 minutes')"),
    ("app", "SELECT bulkhead.idempotency_release('key-1')"),
    ("owner", "SELECT bulkhead.register_inventory('plain', 'name', 'pieces')"),
    ("app", "SELECT bulkhead.decrement_inventory('stock', 'order-2', 'a', 1)"),
    ("app", "SELECT bulkhead.order_verdicts('stock', 'order-1')"),
    ("app", "SELECT bulkhead.release_order('stock', 'order-1')"),
    ("app", "SELECT bulkhead.enqueue_decrement('stock', 'order-3', 'a', 1)"),
    ("postgres", "SELECT bulkhead.drain_batch('stock', 500, '{}')"),
    ("postgres", "SELECT bulkhead.requeue_poisoned('stock')"),
    ("owner", "SELECT bulkhead.manage_partitions('events', '1 day', '40 days')"),
    ("owner", "SELECT bulkhead.hold_partition('events_ptoday', 'audit')"),
    ("postgres", "SELECT bulkhead.put_shared_rule_set('leads', '[]')"),
    ("app", "SELECT bulkhead.score('leads', '{}')"),
    ("owner", "SELECT bulkhead.attach_scoring('leads', 'leads')"),
    ("owner", "SELECT bulkhead.detach_scoring('leads')"),
    ("postgres", "SELECT bulkhead.scoring_step('leads', 'score_pending', clock_timestamp(), NULL, 1000)"),
    ("postgres", "SELECT bulkhead.unprotect_all()"),
    ("postgres", "SELECT bulkhead.health()"),
    ("postgres", "SELECT * FROM bulkhead.metrics"),
    ("postgres", "SELECT bulkhead.leak_test('orders')"),
];

/// Its own locks on relations above ACCESS SHARE, which every reader takes; the strongest of each.
const LOCKS: &str = "
    SELECT concat_ws('.', nullif(n.nspname, 'public'), c.relname), l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND c.relkind IN ('r', 'p')
       AND l.mode <> 'AccessShareLock' AND n.nspname NOT IN ('pg_catalog', 'pg_toast') ORDER BY 1";

const WRITTEN: &str = "
    SELECT concat_ws('.', nullif(schemaname, 'public'), relname) FROM pg_stat_xact_user_tables
     WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY 1";

const MODES: [(&str, &str); 7] = [
    ("AccessExclusiveLock", "ACCESS EXCLUSIVE"),
    ("ExclusiveLock", "EXCLUSIVE"),
    ("ShareRowExclusiveLock", "SHARE ROW EXCLUSIVE"),
    ("ShareLock", "SHARE"),
    ("ShareUpdateExclusiveLock", "SHARE UPDATE EXCLUSIVE"),
    ("RowExclusiveLock", "ROW EXCLUSIVE"),
    ("RowShareLock", "ROW SHARE"),
];

/// A partition by what it is one of; the queue's tables as one.
fn named(table: &str) -> String {
    let digits = table.len() - table.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    match digits {
        1 if table.contains("inventory_queue") => "bulkhead.inventory_queue_…".to_owned(),
        8 => format!("{}…", &table[..table.len() - 8]),
        _ => table.to_owned(),
    }
}

async fn locks(client: &Client) -> String {
    let mut strongest: BTreeMap<String, usize> = BTreeMap::new();
    for row in client.rows(LOCKS).await {
        let rank = MODES.iter().position(|(mode, _)| *mode == row[1]).unwrap_or_else(|| panic!("{row:?}"));
        let known = strongest.entry(named(&row[0])).or_insert(rank);
        *known = rank.min(*known);
    }
    let mut by_mode: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (table, rank) in strongest {
        by_mode.entry(rank).or_default().push(format!("`{table}`"));
    }
    let shown: Vec<_> =
        by_mode.iter().map(|(rank, tables)| format!("{} on {}", MODES[*rank].1, tables.join(", "))).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join("; ") }
}

async fn written(client: &Client) -> String {
    let mut tables: Vec<String> =
        client.column(WRITTEN).await.iter().map(|table| format!("`{}`", named(table))).collect();
    tables.dedup();
    if tables.is_empty() { "none".to_owned() } else { tables.join(", ") }
}

async fn the_page_says_what_is_locked_and_written(db: Database) {
    prepare(&db).await;
    let today = db.admin("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')").unwrap().trim().to_owned();
    let mut text = String::from("| call | locks above ACCESS SHARE | rows written |\n|---|---|---|\n");
    for (role, call) in CALLS {
        let client = db.connect(role).await;
        if role == "app" {
            client.run(&format!("SET bulkhead.tenant_context = '{TENANT}'")).await;
        }
        client.run("BEGIN").await;
        if call.contains("unprotect") {
            client.run("SELECT bulkhead.begin_bypass('remove')").await;
        }
        client.rows(&call.replace("ptoday", &format!("p{today}"))).await;
        let (locks, written) = (locks(&client).await, written(&client).await);
        client.run("ROLLBACK").await;
        let shown = call.strip_prefix("SELECT bulkhead.").unwrap_or(call).replace("ptoday", "p...");
        text.push_str(&generated::row(&[&format!("`{shown}`"), &locks, &written]));
    }
    generated::is("operations.md", "locks", &text);
}

/// The world, an order that is decided, and a table that nobody has registered.
async fn prepare(db: &Database) {
    let owner = world(db).await;
    owner
        .run(
            "CREATE TABLE plain (name text PRIMARY KEY, pieces int NOT NULL, tenant_id uuid);
             REVOKE ALL ON plain FROM app",
        )
        .await;
    let app = db.connect("app").await;
    app.run(&format!(
        "SET bulkhead.tenant_context = '{TENANT}'; SELECT bulkhead.decrement_inventory('stock', 'order-1', 'b', 1); SELECT bulkhead.enqueue_decrement('stock', 'order-0', 'b', 1)"
    ))
    .await;
}
