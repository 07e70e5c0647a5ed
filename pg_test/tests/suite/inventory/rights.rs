//! What a plain role can do, with hostile names, settings and values.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, acting, decide, shops, stock, stored};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        it_needs_the_rights_of_an_update,
        rights_to_columns_are_enough,
        policies_of_the_table_hold,
        rights_to_the_tenants_column_are_asked_for,
        a_path_of_the_callers_changes_nothing,
        what_is_in_pg_temp_changes_nothing => 240,
        whose_table_it_is_is_asked_before_it_is_locked,
        names_of_any_kind,
        row_level_security_of_ones_own_is_refused,
        the_tables_are_nobodys,
    ]
}

async fn it_needs_the_rights_of_an_update(db: Database) {
    let owner = stock(&db).await;
    decide(&owner, "stock", &[("1", "a", "1")]).await;
    let app = db.connect("app").await;
    let calls = [
        "SELECT * FROM bulkhead.decrement_inventory('stock', '1', 'a', 1)",
        "SELECT * FROM bulkhead.decrement_inventory('stock', '2', 'a', 1)",
        "SELECT * FROM bulkhead.decrement_inventory('stock', '3', 'a', 0)",
        "SELECT * FROM bulkhead.order_verdicts('stock', '1')",
        "SELECT bulkhead.release_order('stock', '1')",
        "SELECT bulkhead.enqueue_decrement('stock', '4', 'a', 1)",
        "SELECT * FROM bulkhead.poisoned_orders('stock')",
    ];
    for revoked in ["SELECT", "UPDATE"] {
        owner.run(&format!("GRANT ALL ON stock TO app; REVOKE {revoked} ON stock FROM app")).await;
        for call in calls {
            app.refused(call).await.state("42501").message_contains("permission denied for inventory");
        }
    }
}

async fn rights_to_columns_are_enough(db: Database) {
    let owner = stock(&db).await;
    owner.run("REVOKE ALL ON stock FROM app; GRANT SELECT (sku, stock), UPDATE (stock) ON stock TO app").await;
    let app = db.connect("app").await;
    assert_eq!(decide(&app, "stock", &[("1", "a", "1")]).await, ["accepted 9"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', '1')").await, "1");
}

/// Every statement compares it.
async fn rights_to_the_tenants_column_are_asked_for(db: Database) {
    let owner = shops(&db).await;
    owner.run("REVOKE ALL ON shops FROM app; GRANT SELECT (id, quantity), UPDATE (quantity) ON shops TO app").await;
    let app = acting(&db, "app", A).await;
    for call in [
        "SELECT * FROM bulkhead.decrement_inventory('shops', '1', 'x', 1)",
        "SELECT * FROM bulkhead.order_verdicts('shops', '1')",
        "SELECT bulkhead.release_order('shops', '1')",
        "SELECT bulkhead.enqueue_decrement('shops', '1', 'x', 1)",
        "SELECT * FROM bulkhead.poisoned_orders('shops')",
    ] {
        app.refused(call)
            .await
            .state("42501")
            .message("permission denied for inventory public.shops")
            .detail_contains("SELECT on the tenant column");
    }
    owner.run("GRANT SELECT (tenant_id) ON shops TO app").await;
    assert_eq!(decide(&app, "shops", &[("1", "x", "1")]).await, ["accepted 9"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('shops', '1')").await, "1");
}

async fn policies_of_the_table_hold(db: Database) {
    let owner = shops(&db).await;
    owner.run("CREATE POLICY few ON shops AS RESTRICTIVE FOR UPDATE USING (quantity < 5)").await;
    let app = acting(&db, "app", A).await;
    assert_eq!(
        decide(&app, "shops", &[("1", "x", "1")]).await,
        ["unknown_item NULL"],
        "a row that may not be updated is none"
    );
}

/// Operators and functions that stand in for the server's, if the path were followed.
async fn a_path_of_the_callers_changes_nothing(db: Database) {
    shops(&db).await;
    let app = acting(&db, "app", A).await;
    db.admin(
        "CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO app, owner;
         CREATE TABLE trap.fell (what text); GRANT ALL ON trap.fell TO PUBLIC",
    )
    .unwrap();
    app.run(
        "CREATE FUNCTION trap.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO trap.fell VALUES (current_user); RETURN true; END';
         CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.eq);
         CREATE FUNCTION trap.minus(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN INSERT INTO trap.fell VALUES (current_user); RETURN 1; END';
         CREATE OPERATOR trap.- (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap.minus);
         CREATE FUNCTION trap.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN INSERT INTO trap.fell VALUES (current_user); RETURN; END';
         SET search_path = trap, pg_catalog, public",
    )
    .await;
    assert_eq!(decide(&app, "public.shops", &[("1", "x", "1")]).await, ["accepted 9"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('public.shops', '1')").await, "1");
    app.run("SELECT bulkhead.enqueue_decrement('public.shops', '2', 'x', 1)").await;
    let drainer = db.connect("postgres").await;
    drainer.run("SET search_path = trap, pg_catalog, public").await;
    drainer.run("CALL bulkhead.drain_inventory('public.shops')").await;
    assert_eq!(stored(&app, "public.shops", "2").await, ["x accepted 9"]);
    assert_eq!(db.admin("SELECT count(*) FROM trap.fell").unwrap(), "0");
}

/// Types and tables of pg_temp are found first, with any search_path that does not name it.
const IN_PG_TEMP: &str = "
    CREATE FUNCTION pg_temp.fell(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS
      'BEGIN INSERT INTO public.fell VALUES (CURRENT_USER, $1); RETURN true; END';
    DO $$
    DECLARE of_type pg_catalog.text;
    BEGIN
      FOREACH of_type IN ARRAY '{text,name,oid,int2,int4,int8,bool,uuid,regclass,\"char\",bytea,jsonb,json,timestamptz,float8,numeric,tid,xid,regprocedure}'::pg_catalog.text[] LOOP
        EXECUTE pg_catalog.format('CREATE DOMAIN pg_temp.%1$I AS pg_catalog.%1$I CHECK (pg_temp.fell(%1$L))', of_type);
      END LOOP;
      FOREACH of_type IN ARRAY '{pg_class,pg_attribute,pg_index,pg_proc,pg_inherits,pg_namespace}'::pg_catalog.text[] LOOP
        EXECUTE pg_catalog.format('CREATE TEMP TABLE %I (oid pg_catalog.oid)', of_type);
      END LOOP;
    END $$";

/// As the extension's owner, that would be a superuser's rights for anybody.
async fn what_is_in_pg_temp_changes_nothing(db: Database) {
    shops(&db).await;
    db.admin("CREATE TABLE public.fell (who name, what text); GRANT ALL ON public.fell TO PUBLIC").unwrap();
    db.admin("ALTER TABLE shops ADD CONSTRAINT few CHECK (quantity > 4) NOT VALID").unwrap();
    let owner = db.connect("owner").await;
    owner.run(IN_PG_TEMP).await;
    owner.run("SELECT bulkhead.register_inventory('public.shops')").await;
    let app = db.connect("app").await;
    app.run(IN_PG_TEMP).await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    app.run(
        "SELECT * FROM bulkhead.decrement_inventory('public.shops', '1', 'x', 1);
         SELECT * FROM bulkhead.decrement_inventory('public.shops', ARRAY['1', '2'], ARRAY['x', 'x'], ARRAY[1, 1]);
         SELECT * FROM bulkhead.order_verdicts('public.shops', '1');
         SELECT bulkhead.release_order('public.shops', '1');
         SELECT bulkhead.enqueue_decrement('public.shops', '3', 'x', 1);
         SELECT bulkhead.enqueue_decrement('public.shops', '4', ARRAY['x', 'x'], ARRAY[6, 7]);
         SELECT bulkhead.enqueue_decrement('public.shops', '5', 'x', 7);
         ALTER TABLE pg_class ADD also int",
    )
    .await;
    // Without a worker it is refused, after it has looked at the table.
    let _ = app.simple_query("SELECT * FROM bulkhead.decrement_now('public.shops', '6', 'x', 1, '10 ms')").await;
    let boss = db.connect("postgres").await;
    boss.run(IN_PG_TEMP).await;
    boss.run("CALL bulkhead.drain_inventory('public.shops')").await;
    app.run("SELECT * FROM bulkhead.poisoned_orders('public.shops')").await;
    assert_eq!(boss.column("SELECT order_id FROM bulkhead.all_poisoned_orders()").await, ["5"]);
    boss.run(
        "SELECT bulkhead.requeue_poisoned('public.shops'); SELECT bulkhead.forget_poisoned('public.shops');
         SELECT * FROM bulkhead.health(); SELECT * FROM bulkhead.status()",
    )
    .await;
    boss.run("CALL bulkhead.maintain()").await;
    owner.run("ALTER TABLE public.shops RENAME quantity TO pieces; DROP TABLE public.shops").await;
    assert_eq!(db.admin("SELECT DISTINCT * FROM public.fell").unwrap(), "");
}

/// Whoever waits for such a lock makes an autovacuum give way, and everybody behind it wait.
async fn whose_table_it_is_is_asked_before_it_is_locked(db: Database) {
    let owner = stock(&db).await;
    owner.run("BEGIN; LOCK TABLE stock IN SHARE UPDATE EXCLUSIVE MODE").await;
    let app = db.connect("app").await;
    app.run("SET lock_timeout = '300ms'").await;
    app.refused("SELECT bulkhead.register_inventory('stock', 'sku', 'stock')").await.state("42501");
    app.refused("SELECT bulkhead.register_inventory('pg_catalog.pg_class')").await.state("42501");
    app.refused("SELECT bulkhead.register_inventory(77)")
        .await
        .state("22023")
        .message("there is no relation with oid 77");
    app.run("BEGIN").await;
    app.refused("SELECT bulkhead.register_inventory('pg_catalog.pg_class')").await.state("42501");
    let locked =
        "SELECT count(*) FROM pg_locks WHERE mode = 'ShareUpdateExclusiveLock' AND relation = 'pg_class'::regclass";
    assert_eq!(owner.one(locked).await, "0");
}

async fn names_of_any_kind(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE SCHEMA \"S'; DROP\";
             CREATE TABLE \"S'; DROP\".\"t\"\"x\" (\"the item\" text PRIMARY KEY, \"q%I\" smallint CHECK (\"q%I\" >= 0));
             INSERT INTO \"S'; DROP\".\"t\"\"x\" VALUES (E'it''s \\\\ \\u00e9', 5);
             SELECT bulkhead.register_inventory('\"S''; DROP\".\"t\"\"x\"', 'the item', 'q%I');",
        )
        .await;
    let rows = owner
        .rows("SELECT verdict, remaining FROM bulkhead.decrement_inventory('\"S''; DROP\".\"t\"\"x\"', E'o''\\\\\\u20ac', E'it''s \\\\ \\u00e9', 2)")
        .await;
    assert_eq!(rows, [["accepted", "3"]]);
    let long = "x".repeat(200_000);
    let rows = owner
        .rows(&format!(
            "SELECT verdict FROM bulkhead.decrement_inventory('\"S''; DROP\".\"t\"\"x\"', '{long}', '{long}', 1)"
        ))
        .await;
    assert_eq!(rows, [["unknown_item"]]);
    let again = format!("SELECT verdict FROM bulkhead.order_verdicts('\"S''; DROP\".\"t\"\"x\"', '{long}')");
    assert_eq!(owner.rows(&again).await, [["unknown_item"]]);
}

async fn row_level_security_of_ones_own_is_refused(db: Database) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "1")]).await;
    owner.run("ALTER TABLE stock ENABLE ROW LEVEL SECURITY").await;
    for sql in [
        "SELECT * FROM bulkhead.decrement_inventory('stock', '1', 'a', 1)",
        "SELECT * FROM bulkhead.order_verdicts('stock', '1')",
    ] {
        app.refused(sql).await.state("55000").message("public.stock cannot be an inventory as it is");
    }
}

async fn the_tables_are_nobodys(db: Database) {
    stock(&db).await;
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        for table in ["inventory", "order_verdict", "inventory_queue_0", "inventory_poison"] {
            for sql in [format!("SELECT * FROM bulkhead.{table}"), format!("DELETE FROM bulkhead.{table}")] {
                client.refused(&sql).await.state("42501");
            }
        }
        client.refused("SELECT nextval('bulkhead.inventory_request_number')").await.state("42501");
    }
}
