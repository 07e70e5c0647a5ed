//! What a statement without a tenant gets where the library is loaded another way, or is told to be quiet.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, NOTHING, OF_A, OF_B, act_for, acting, bare_orders, fill_orders, orders, seen};
use crate::harness::{SessionPreload, WithoutPreload};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        with_session_preload_it_is_an_error,
        without_preload_it_finds_no_rows,
        without_preload_the_border_holds,
        without_preload_partitions_are_followed,
        status_says_what_a_naked_statement_gets,
        empty_finds_no_rows_and_writes_none,
        empty_holds_for_every_shape,
        empty_is_for_superusers_to_choose,
        empty_for_one_role_is_an_error_for_the_others,
        empty_finds_no_rows_for_an_id_of_another_type,
        a_prepared_statement_is_refused_once_its_table_is_protected,
        an_open_session_hears_of_a_new_partition,
        a_session_in_another_database_is_not_touched,
        without_the_extension_the_hooks_are_inert,
        a_session_that_was_there_before_the_extension_obeys_it,
    ]
}

/// Without a tenant the session finds nothing and changes nothing in `orders`, which holds five rows.
async fn assert_empty(db: &Database, client: &Client) {
    assert_eq!(seen(client).await, NOTHING);
    for write in ["UPDATE orders SET item = 'x' RETURNING id", "DELETE FROM orders RETURNING id"] {
        assert_eq!(client.column(write).await, NOTHING, "{write}");
    }
    for insert in ["INSERT INTO orders (id) VALUES (6)".to_owned(), format!("INSERT INTO orders VALUES (6, '{A}')")] {
        let refused = client.refused(&insert).await;
        refused.state("42501").message_contains("new row violates row-level security policy");
    }
    assert_eq!(db.admin("SELECT count(*) FROM orders WHERE item LIKE 'item%'").unwrap(), "5");
}

async fn with_session_preload_it_is_an_error(db: SessionPreload) {
    orders(&db).await;
    for role in ["app", "owner"] {
        let client = db.connect(role).await;
        for statement in ["TABLE orders", "DELETE FROM orders", "INSERT INTO orders VALUES (6)", "EXPLAIN TABLE orders"]
        {
            let refused = client.refused(statement).await;
            refused.state("42501").message("no tenant context for protected table public.orders");
        }
        act_for(&client, A).await;
        assert_eq!(seen(&client).await, OF_A);
    }
}

async fn without_preload_it_finds_no_rows(db: WithoutPreload) {
    orders(&db).await;
    // In a session that has loaded nothing yet, in one that has, and in one that had a tenant.
    assert_empty(&db, &db.connect("app").await).await;
    let loaded = db.connect("app").await;
    loaded.run("SELECT bulkhead.tenant_id()").await;
    assert_empty(&db, &loaded).await;
    act_for(&loaded, A).await;
    assert_eq!(seen(&loaded).await, OF_A);
    loaded.run("RESET bulkhead.tenant_context").await;
    assert_empty(&db, &loaded).await;
}

async fn without_preload_the_border_holds(db: WithoutPreload) {
    let owner = orders(&db).await;
    owner.run("CREATE POLICY evil ON orders USING (true) WITH CHECK (true)").await;
    for role in ["app", "owner"] {
        let client = db.connect(role).await;
        client.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{B}'")).await;
        assert_eq!(seen(&client).await, OF_B, "{role}");
        client.refused(&format!("INSERT INTO orders VALUES (6, '{A}')")).await.state("42501");
        client.run("ROLLBACK").await;
        assert_eq!(seen(&client).await, NOTHING, "{role}");
    }
}

async fn without_preload_partitions_are_followed(db: WithoutPreload) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE p (id int, tenant_id uuid) PARTITION BY RANGE (id); SELECT bulkhead.protect('p')").await;
    // A new session loads the library with the event trigger's first call, when the DDL is done already.
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE p1 PARTITION OF p DEFAULT").await;
    let app = db.connect("app").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'; INSERT INTO p VALUES (1)")).await;
    for (tenant, ids) in [(A, &["1"][..]), (B, &[]), ("", &[])] {
        let app = acting(&db, "app", tenant).await;
        assert_eq!(app.column("SELECT id FROM p1").await, ids, "{tenant:?}");
    }
}

async fn status_says_what_a_naked_statement_gets(db: Database) {
    let missing = "SELECT value, detail FROM bulkhead.status() WHERE item = 'missing_context'";
    let client = db.connect("app").await;
    assert_eq!(client.rows(missing).await, [["error", "a statement without a tenant is refused"]]);
    let place = <SessionPreload as crate::harness::Place>::make("status").unwrap();
    assert_eq!(place.connect("app").await.rows(missing).await[0][0], "error");
    let place = <WithoutPreload as crate::harness::Place>::make("status").unwrap();
    let quiet = place.connect("app").await.rows(missing).await;
    assert_eq!(quiet, [["empty", "the library is not preloaded, so a statement without a tenant finds no rows"]]);
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.missing_context = 'empty'", db.name)).unwrap();
    let client = db.connect("app").await;
    assert_eq!(client.rows(missing).await, [["empty", "a statement without a tenant finds no rows"]]);
}

async fn empty_finds_no_rows_and_writes_none(db: Database) {
    orders(&db).await;
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.missing_context = 'empty'", db.name)).unwrap();
    for role in ["app", "owner"] {
        let client = db.connect(role).await;
        assert_empty(&db, &client).await;
        act_for(&client, A).await;
        assert_eq!(seen(&client).await, OF_A);
        client.run("RESET ALL").await;
        assert_empty(&db, &client).await;
    }
}

async fn empty_holds_for_every_shape(db: Database) {
    super::naked::place(&db).await;
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.missing_context = 'empty'", db.name)).unwrap();
    for role in ["app", "owner"] {
        let client = db.connect(role).await;
        for (number, expected) in [
            ("SELECT count(*) FROM orders", "0"),
            ("SELECT count(*) FROM plain LEFT JOIN orders USING (id)", "2"),
            ("SELECT count(orders.id) FROM plain LEFT JOIN orders USING (id)", "0"),
            ("SELECT count(*) FROM plain WHERE id IN (SELECT id FROM orders)", "0"),
            ("SELECT count(*) FROM plain WHERE NOT EXISTS (SELECT FROM orders WHERE orders.id = plain.id)", "2"),
            ("SELECT count(*) FROM plain, LATERAL (SELECT * FROM orders WHERE orders.id = plain.id) l", "0"),
            ("WITH o AS MATERIALIZED (SELECT * FROM orders) SELECT count(*) FROM o", "0"),
            ("WITH o AS (UPDATE orders SET item = 'x' RETURNING 1) SELECT count(*) FROM o", "0"),
            ("WITH o AS (DELETE FROM orders RETURNING 1) SELECT count(*) FROM o", "0"),
            ("SELECT count(*) FROM owners_view", "0"),
            ("SELECT count(*) FROM callers_view", "0"),
            ("SELECT count(*) FROM inlined()", "0"),
            ("SELECT count(*) FROM atomic()", "0"),
            ("SELECT one_call()", "0"),
            ("SELECT procedural()", "0"),
            ("SELECT dynamic()", "0"),
            ("SELECT definer()", "0"),
            ("SELECT count(*) FROM definer_sql()", "0"),
            ("SELECT frozen()", "0"),
        ] {
            assert_eq!(client.one(number).await, expected, "{role}: {number}");
        }
        client.run("SELECT writer(); INSERT INTO log SELECT id FROM orders").await;
        let copy = db.psql(role, "COPY orders TO STDOUT; COPY (SELECT * FROM owners_view) TO STDOUT;").unwrap();
        assert_eq!(String::from_utf8_lossy(&copy.stdout), "");
        assert_empty(&db, &client).await;
    }
    assert_eq!(db.admin("SELECT count(*) FROM log").unwrap(), "0");
}

async fn empty_is_for_superusers_to_choose(db: Database) {
    orders(&db).await;
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        for set in [
            "SET bulkhead.missing_context = 'empty'",
            "SELECT set_config('bulkhead.missing_context', 'empty', false)",
            "ALTER ROLE CURRENT_USER SET bulkhead.missing_context = 'empty'",
        ] {
            client.refused(set).await.state("42501").message_contains("permission denied to set parameter");
        }
        let mut config = db.config(role);
        config.options("-c bulkhead.missing_context=empty");
        assert!(Client::connect(&config).await.is_err(), "{role}");
    }
    db.connect("app").await.refused("TABLE orders").await.state("42501");
}

async fn empty_for_one_role_is_an_error_for_the_others(db: Database) {
    orders(&db).await;
    let quiet = format!("quiet_{}", db.name);
    db.admin(&format!(
        "CREATE ROLE {quiet} LOGIN IN ROLE app; ALTER ROLE {quiet} IN DATABASE {} SET bulkhead.missing_context = 'empty'",
        db.name
    ))
    .unwrap();
    assert_empty(&db, &db.connect(&quiet).await).await;
    db.connect("app").await.refused("TABLE orders").await.state("42501");
    db.admin(&format!("DROP ROLE {quiet}")).unwrap();
}

async fn empty_finds_no_rows_for_an_id_of_another_type(db: Database) {
    orders(&db).await;
    db.admin(&format!("ALTER DATABASE {} SET bulkhead.missing_context = 'empty'", db.name)).unwrap();
    for tenant in ["h2o", "42", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"] {
        let app = db.connect("app").await;
        act_for(&app, tenant).await;
        assert_empty(&db, &app).await;
    }
}

async fn a_prepared_statement_is_refused_once_its_table_is_protected(db: Database) {
    let owner = bare_orders(&db).await;
    let app = db.connect("app").await;
    app.run("PREPARE q AS SELECT count(*) FROM orders").await;
    let generic = db.connect("app").await;
    generic.run("SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT count(*) FROM orders").await;
    let function = db.connect("app").await;
    owner.run("CREATE FUNCTION counting() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM orders); END'").await;
    for _ in 0..7 {
        assert_eq!(app.one("EXECUTE q").await, "5");
        assert_eq!(generic.one("EXECUTE q").await, "5");
        assert_eq!(function.one("SELECT counting()").await, "5");
    }
    owner.run("SELECT bulkhead.protect('orders')").await;
    for (client, statement) in [(&app, "EXECUTE q"), (&generic, "EXECUTE q"), (&function, "SELECT counting()")] {
        client.refused(statement).await.state("42501").message("no tenant context for protected table public.orders");
        act_for(client, A).await;
        assert_eq!(client.one(statement).await, "3");
    }
}

async fn an_open_session_hears_of_a_new_partition(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE p (id int, tenant_id uuid) PARTITION BY RANGE (id); SELECT bulkhead.protect('p')").await;
    let app = db.connect("app").await;
    app.refused("TABLE p").await.state("42501");
    owner.run("CREATE TABLE p1 (id int, tenant_id uuid NOT NULL)").await;
    app.run("PREPARE q AS SELECT * FROM p1; EXECUTE q").await;
    owner.run("ALTER TABLE p ATTACH PARTITION p1 DEFAULT").await;
    app.refused("EXECUTE q").await.state("42501").message("no tenant context for protected table public.p1");
}

async fn a_session_in_another_database_is_not_touched(db: Database) {
    orders(&db).await;
    let other = db.cluster.database("other").unwrap();
    bare_orders(&other).await;
    let app = other.connect("app").await;
    assert_eq!(seen(&app).await.len(), 5);
    drop(app);
    other.drop().unwrap();
}

async fn without_the_extension_the_hooks_are_inert(db: Database) {
    let other = db.cluster.empty_database("plain").unwrap();
    other.admin("GRANT CREATE ON SCHEMA public TO owner").unwrap();
    let owner = other.connect("owner").await;
    fill_orders(&owner).await;
    owner
        .run(&format!(
            "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders USING (tenant_id = '{A}');
             GRANT ALL ON orders TO app"
        ))
        .await;
    let app = other.connect("app").await;
    assert_eq!(seen(&app).await, OF_A);
    app.run("SET bulkhead.tenant_context = 'x'; UPDATE orders SET item = 'y'; DELETE FROM orders WHERE id = 1; PREPARE q AS TABLE orders; EXECUTE q").await;
    assert_eq!(seen(&app).await, ["2", "3"]);
    drop((owner, app));
    other.drop().unwrap();
}

async fn a_session_that_was_there_before_the_extension_obeys_it(db: Database) {
    let other = db.cluster.empty_database("late").unwrap();
    other.admin("GRANT CREATE ON SCHEMA public TO owner").unwrap();
    let owner = other.connect("owner").await;
    fill_orders(&owner).await;
    owner.run("GRANT ALL ON orders TO app").await;
    let app = other.connect("app").await;
    assert_eq!(seen(&app).await.len(), 5);
    other.admin("CREATE EXTENSION bulkhead").unwrap();
    assert_eq!(seen(&app).await.len(), 5);
    owner.run("SELECT bulkhead.protect('orders')").await;
    app.refused("TABLE orders").await.state("42501").message("no tenant context for protected table public.orders");
    act_for(&app, B).await;
    assert_eq!(seen(&app).await, OF_B);
    drop((owner, app));
    other.drop().unwrap();
}
