//! A database in which every room is in use, and what it does wherever it comes to.

use pg_test::{Client, Database};

use crate::fixture::acting;

pub const A: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
pub const B: &str = "b1ffcd88-8d1c-4fa9-9c7e-7cc0ce491b22";

/// A protected table, a tenant of its key's type, and the ids of its rows there.
type Protected = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Every protected table but partitions and those whose rows the tests write.
const PROTECTED: [Protected; 10] = [
    ("customers", "tenant_id", A, &["1"]),
    ("orders", "tenant_id", A, &["1", "2"]),
    ("notes", "tenant_id", B, &["2"]),
    ("labels", "tenant", A, &["1"]),
    ("jobs", "account", "-8", &["2"]),
    ("chats", "tenant_id", "8", &["2"]),
    ("readings", "tenant_id", "7", &["1", "11"]),
    ("base", "tenant_id", A, &["1", "3"]),
    ("\"Semi; \"\"quoted\"\" it's\"", "größe", B, &["2"]),
    ("readings_low_0", "tenant_id", "8", &["2"]),
];

/// What the installation grants to the application beyond what the extension does.
pub const GRANTED: &str = "GRANT EXECUTE ON FUNCTION bulkhead.put_rule_set TO app";

const RULES: &str = r#"[{"id": "budget", "when": {">": [{"var": "budget"}, 10]}, "score": 20}]"#;

/// Fills it: tables, registrations, and what tenants leave behind in each room.
pub async fn fill(db: &Database) {
    let owner = db.connect("owner").await;
    owner.run(&include_str!("world.sql").replace("{A}", A).replace("{B}", B)).await;
    db.admin(GRANTED).unwrap();
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('lead', '{}')", RULES.replace("20", "5"))).unwrap();
    let (a, b) = (acting(db, "app", A).await, acting(db, "app", B).await);
    for (client, score) in [(&a, "{}"), (&b, r#"{"budget": 1}"#)] {
        client
            .run(&format!(
                r#"SELECT bulkhead.idempotency_claim('paid', 'print'), bulkhead.idempotency_claim('open', NULL, '20 hours');
                   SELECT bulkhead.idempotency_complete('paid', 201, '{{"id": 7}}');
                   INSERT INTO leads (document) VALUES ('{{"budget": 11}}'), ('{score}')"#
            ))
            .await;
    }
    a.run(&format!(
        "SELECT bulkhead.put_rule_set('lead', '{RULES}'); SELECT bulkhead.put_rule_set('lead', '[]', false)"
    ))
    .await;
    db.admin("CALL bulkhead.score_pending('leads', 1, 2)").unwrap();
    a.run("SELECT bulkhead.decrement_inventory('stock', 'o-1', 'a', 4), bulkhead.decrement_inventory('stock', 'o-2', 'a', 40)").await;
    a.run("SELECT bulkhead.decrement_inventory('shops', 'o-1', 'x', 4); SELECT bulkhead.decrement_inventory('shops', 'back', 'x', 2)").await;
    a.run("SELECT bulkhead.release_order('shops', 'back')").await;
    b.run("SELECT bulkhead.decrement_inventory('shops', 'o-1', 'x', 1); SELECT bulkhead.enqueue_decrement('shops', 'poison', 'y', 1)").await;
    db.admin("CALL bulkhead.drain_inventory('shops')").unwrap();
    owner.run("ALTER TABLE shops DROP CONSTRAINT closed").await;
    a.run("SELECT bulkhead.enqueue_decrement('shops', 'waits', 'x', 1)").await;
    b.run("SELECT bulkhead.enqueue_decrement('shops', 'waits', 'x', 2)").await;
    db.admin(
        "SELECT bulkhead.lint_allow('undeclared-table', 'public.stock', 'one shop for all');
         BEGIN; SELECT bulkhead.begin_bypass('to be remembered'); UPDATE orders SET item = item; COMMIT;
         CALL bulkhead.maintain()",
    )
    .unwrap();
}

/// What lint() says to whoever asks.
pub async fn lint(client: &Client) -> Vec<String> {
    client.column("SELECT concat_ws(' ', level, rule, object, detail) FROM bulkhead.lint()").await
}

/// What may be asked of it without writing: each role sees one tenant's rows or is refused, in every protected table.
pub async fn is_isolated(db: &Database) {
    for role in ["app", "svc", "owner", "postgres"] {
        let client = db.connect(role).await;
        for (table, _, tenant, ids) in PROTECTED {
            client.run("RESET bulkhead.tenant_context").await;
            let naked = client.refused(&format!("SELECT * FROM {table}")).await;
            naked.state("42501").message_contains("no tenant context for protected table");
            client.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
            assert_eq!(client.column(&format!("SELECT id FROM {table} ORDER BY id")).await, ids, "{role} {table}");
        }
        assert_eq!(client.column("SELECT sku FROM prices").await, ["a"], "{role}");
    }
    let app = acting(db, "app", A).await;
    assert_eq!(app.column("SELECT concat_ws(' ', score, status) FROM leads ORDER BY id").await[..1], ["20 scored"]);
    assert_eq!(app.one("SELECT bulkhead.score('lead', '{\"budget\": 11}')").await, "20");
    let b = acting(db, "app", B).await;
    assert_eq!(b.one("SELECT bulkhead.score('lead', '{\"budget\": 11}')").await, "5");
    let told = "SELECT concat_ws(' ', item, verdict, remaining) FROM bulkhead.order_verdicts('shops', 'o-1')";
    assert_eq!((app.one(told).await, b.one(told).await), ("x accepted 6".into(), "x accepted 2".into()));
    let poison = "SELECT concat_ws(' ', order_id, sqlstate) FROM bulkhead.poisoned_orders('shops')";
    assert_eq!(b.column(poison).await, ["poison 23514"]);
}

/// Everything goes on where it was: what was promised is kept, what waits is done, what comes is bound. It changes the database.
pub async fn goes_on(db: &Database) {
    is_isolated(db).await;
    let owner = db.connect("owner").await;
    for (table, column, ..) in &PROTECTED[..9] {
        let call = format!("SELECT bulkhead.protect('{}', '{column}')", table.replace('\'', "''"));
        assert_eq!(owner.column(&call).await, [""; 0], "{table} is as protect() leaves it");
    }
    borders_hold(db).await;
    keys_and_orders_are_known(db).await;
    what_waits_is_done(db).await;
    partitions_are_maintained(db).await;
    let admin = db.past_the_seal("postgres").await;
    let remembered = "SELECT count(*) FROM bulkhead.bypass_log WHERE reason = 'to be remembered'";
    assert_ne!(admin.one(remembered).await, "0");
    assert_eq!(admin.column("SELECT relation FROM bulkhead.observation").await, ["watched"]);
}

/// What is written lands at the tenant's, whatever is tried.
async fn borders_hold(db: &Database) {
    for role in ["app", "postgres"] {
        let client = acting(db, role, A).await;
        client.refused(&format!("INSERT INTO notes VALUES (9, '{B}')")).await.state("42501");
        client.refused(&format!("UPDATE orders SET tenant_id = '{B}'")).await.state("42501");
        client.run("BEGIN; INSERT INTO notes (id) VALUES (9)").await;
        assert_eq!(client.one("SELECT tenant_id FROM notes WHERE id = 9").await, A);
        client.run("ROLLBACK").await;
        client.refused("TRUNCATE notes").await.state("55000");
        assert_eq!(client.one("WITH gone AS (DELETE FROM notes RETURNING 1) SELECT count(*) FROM gone").await, "1");
        client.run("INSERT INTO notes VALUES (1, DEFAULT, 'of a')").await;
    }
    let app = acting(db, "app", A).await;
    app.refused("INSERT INTO prices VALUES ('b', 1)").await.state("42501");
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE readings_late PARTITION OF readings FOR VALUES FROM (100) TO (200)").await;
    owner.refused("TABLE readings_late").await.state("42501");
    owner.run("ALTER TABLE chats RENAME tenant_id TO account; ALTER TABLE chats RENAME TO talks").await;
    let b = acting(db, "app", "8").await;
    assert_eq!(b.column("SELECT id FROM talks").await, ["2"]);
    owner.run("ALTER TABLE talks RENAME TO chats; ALTER TABLE chats RENAME account TO tenant_id").await;
}

async fn keys_and_orders_are_known(db: &Database) {
    let (a, b) = (acting(db, "app", A).await, acting(db, "app", B).await);
    for client in [&a, &b] {
        let claim = |key: &str, print: &str| {
            format!("SELECT concat_ws(' ', state, status, response) FROM bulkhead.idempotency_claim('{key}', {print})")
        };
        assert_eq!(client.one(&claim("paid", "'print'")).await, r#"replay 201 {"id": 7}"#);
        assert_eq!(client.one(&claim("paid", "'other'")).await, "mismatch");
        assert_eq!(client.one(&claim("open", "NULL")).await, "in_progress");
    }
    let decide = |table: &str, order: &str, item: &str, quantity: i32| {
        format!(
            "SELECT concat_ws(' ', verdict, remaining) FROM bulkhead.decrement_inventory('{table}', '{order}', '{item}', {quantity})"
        )
    };
    assert_eq!(a.one(&decide("stock", "o-1", "a", 4)).await, "accepted 6", "a replay");
    assert_eq!(a.one(&decide("stock", "o-2", "a", 40)).await, "insufficient 6", "a replay");
    assert_eq!(a.one(&decide("shops", "o-1", "x", 5)).await, "conflict");
    assert_eq!(a.one("SELECT bulkhead.release_order('shops', 'back')").await, "0", "given back already");
    assert_eq!(a.one(&decide("stock", "o-3", "a", 1)).await, "accepted 5");
}

async fn what_waits_is_done(db: &Database) {
    assert_eq!(db.admin("SELECT bulkhead.requeue_poisoned('shops')").unwrap(), "1");
    db.admin("CALL bulkhead.drain_inventory('shops'); CALL bulkhead.score_pending('leads')").unwrap();
    let (a, b) = (acting(db, "app", A).await, acting(db, "app", B).await);
    let told = |order| {
        format!("SELECT concat_ws(' ', item, verdict, remaining) FROM bulkhead.order_verdicts('shops', '{order}')")
    };
    assert_eq!(a.one(&told("waits")).await, "x accepted 5");
    assert_eq!(b.one(&told("waits")).await, "x accepted 0");
    assert_eq!(b.one(&told("poison")).await, "y accepted 6");
    let scored = "SELECT concat_ws(' ', score, status, rules_version) FROM leads ORDER BY id";
    assert_eq!(a.column(scored).await, ["20 scored 1", "0 scored 1"]);
    assert_eq!(b.column(scored).await, ["5 scored 1", "0 scored 1"]);
    assert_eq!(a.one(&format!("SELECT bulkhead.put_rule_set('lead', '{RULES}')")).await, "3", "versions go on");
}

async fn partitions_are_maintained(db: &Database) {
    let owner = db.connect("owner").await;
    let of = |days: i32| format!("SELECT 'events_p' || to_char((now() AT TIME ZONE 'UTC')::date + {days}, 'YYYYMMDD')");
    let last = owner.one(&of(2)).await;
    owner.run(&format!("DROP TABLE {last}")).await;
    owner.refused("DROP TABLE events_5").await.state("55000");
    owner.run("SELECT bulkhead.release_hold('events_5')").await;
    db.admin("CALL bulkhead.maintain()").unwrap();
    owner.refused(&format!("TABLE {last}")).await.state("42501");
    assert_eq!(
        owner.column("SELECT partition FROM archived ORDER BY partition").await,
        ["public.events_4", "public.events_5"]
    );
    assert_eq!(owner.one("SELECT to_regclass('events_5')").await, "NULL");
    let complaints = "SELECT concat_ws(' ', parent, action, detail) FROM bulkhead.maintenance_log WHERE NOT ok";
    assert_eq!(db.admin(complaints).unwrap(), "");
}
