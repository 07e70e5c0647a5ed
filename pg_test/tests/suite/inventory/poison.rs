//! What drains set aside: with the error as it was raised, seen by whom it concerns, queued again or forgotten by a call.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, acting, decide, left, queue, shops, stock, stored};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_row_that_a_trigger_keeps_is_set_aside,
        codes_are_shown_as_they_were_raised,
        a_strange_error_is_an_orders_where_another_is_written,
        what_goes_wrong_with_the_ledger_is_no_orders_fault,
        an_order_that_another_holds_open_is_passed_by,
        it_is_queued_again_or_forgotten,
        queued_again_by_two_at_once_it_is_queued_once => 240,
        nobodys_orders_are_shown_to_who_drains,
        only_who_may_sees_or_touches_it,
        a_dropped_tables_orders_are_set_aside,
    ]
}

const WAITING: &str =
    "SELECT count(*) FROM (TABLE bulkhead.inventory_queue_0 UNION ALL TABLE bulkhead.inventory_queue_1) q";

const DRAIN: &str = "CALL bulkhead.drain_inventory('stock')";

/// A trigger without an error: the row is not written, and nothing says why.
async fn a_row_that_a_trigger_keeps_is_set_aside(db: Database) {
    let owner = stock(&db).await;
    db.admin("UPDATE stock SET stock = 1000").unwrap();
    owner
        .run(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF old.stock - new.stock >= 13 THEN RETURN NULL; END IF; RETURN new; END $$;
             CREATE TRIGGER keep BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION keep()",
        )
        .await;
    // Eleven of one piece each are not to be taken at once together with the one of thirteen.
    let mut orders = vec![("bad", "b", 13)];
    orders.extend(["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"].map(|order| (order, "a", 1)));
    orders.insert(4, ("worse", "c", 14));
    queue(&db, "app", "stock", &orders).await;
    db.connect("postgres").await.run(DRAIN).await;
    assert_eq!(left(&owner).await, ["a 989", "b 1000", "c 1000"]);
    let app = db.connect("app").await;
    assert_eq!(stored(&app, "stock", "11").await, ["a accepted 989"]);
    let poisoned =
        app.rows("SELECT order_id, sqlstate, split_part(reason, ' (', 1) FROM bulkhead.poisoned_orders('stock')").await;
    let reason = "only 0 of 1 rows of public.stock could be updated";
    assert_eq!(poisoned, [["bad", "55000", reason], ["worse", "55000", reason]]);
    // A client that brings the order itself is told.
    let refused = app.refused("SELECT * FROM bulkhead.decrement_inventory('stock', 'direct', 'b', 13)").await;
    refused.state("55000").message(reason).detail_contains("a trigger that returns NULL");
}

/// An error that says nothing of a row: a table that is not there.
async fn a_strange_error_is_an_orders_where_another_is_written(db: Database) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.sku <> 'b' THEN EXECUTE format('INSERT INTO public.%I VALUES (1)', 'log_' || new.sku); END IF; RETURN new; END $$;
             CREATE TRIGGER log BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION log()",
        )
        .await;
    let drainer = db.connect("postgres").await;
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "a", 1)]).await;
    // All of them meet it, but for those that take nothing: it is the table's, and they wait on.
    queue(&db, "app", "stock", &[("sold out", "c", 1), ("unknown", "nothing", 1)]).await;
    let refused = drainer.refused(DRAIN).await;
    refused
        .state("42P01")
        .message("relation \"public.log_a\" does not exist")
        .detail_contains("What was decided besides stays.");
    assert_eq!(db.admin(WAITING).unwrap().trim(), "2");
    assert_eq!(stored(&owner, "stock", "sold out").await.len(), 1);
    // It is theirs, when another is written.
    queue(&db, "app", "stock", &[("3", "b", 1)]).await;
    drainer.run(DRAIN).await;
    let poisoned = "SELECT order_id, sqlstate FROM bulkhead.poisoned_orders('stock')";
    assert_eq!(owner.rows(poisoned).await, [["1", "42P01"], ["2", "42P01"]]);
    assert_eq!(stored(&owner, "stock", "3").await.len(), 1);
    owner.run("CREATE TABLE log_a (n int)").await;
    drainer.run("SELECT bulkhead.requeue_poisoned('stock')").await;
    drainer.run(DRAIN).await;
    assert_eq!(stored(&owner, "stock", "2").await.len(), 1);
}

/// Today's partition is to be made, and somebody forbids it.
async fn what_goes_wrong_with_the_ledger_is_no_orders_fault(db: Database) {
    let owner = stock(&db).await;
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "b", 1)]).await;
    db.admin(
        "DO $$ DECLARE part regclass; BEGIN
           FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'bulkhead.order_verdict'::regclass LOOP
             EXECUTE format('DROP TABLE %s', part);
           END LOOP; END $$;
         CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no DDL today'; END $$;
         CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()",
    )
    .unwrap();
    let drainer = db.connect("postgres").await;
    drainer.refused(DRAIN).await.state("P0001").message("no DDL today");
    assert!(owner.rows("SELECT * FROM bulkhead.poisoned_orders('stock')").await.is_empty());
    assert_eq!(db.admin(WAITING).unwrap().trim(), "2");
    db.admin("DROP EVENT TRIGGER no_ddl").unwrap();
    drainer.run(DRAIN).await;
    assert_eq!(left(&owner).await, ["a 9", "b 4", "c 0"]);
}

/// The drain does not stop at it, and returns.
async fn an_order_that_another_holds_open_is_passed_by(db: Database) {
    let owner = stock(&db).await;
    owner.run("BEGIN; SELECT * FROM bulkhead.decrement_inventory('stock', '1', 'nothing', 1)").await;
    queue(&db, "app", "stock", &[("1", "nothing", 1), ("2", "a", 1), ("3", "b", 1)]).await;
    let drainer = db.connect("postgres").await;
    drainer.run("CALL bulkhead.drain_inventory('stock', 1)").await;
    let app = db.connect("app").await;
    assert_eq!(stored(&app, "stock", "2").await, ["a accepted 9"]);
    assert_eq!(stored(&app, "stock", "3").await, ["b accepted 4"]);
    assert_eq!(db.admin(WAITING).unwrap().trim(), "1");
    owner.run("ROLLBACK").await;
    drainer.run("CALL bulkhead.drain_inventory('stock', 1)").await;
    assert_eq!(stored(&app, "stock", "1").await, ["nothing unknown_item NULL"]);
    assert_eq!(db.admin(WAITING).unwrap().trim(), "0");
}

async fn codes_are_shown_as_they_were_raised(db: Database) {
    let owner = stock(&db).await;
    owner
        .run(
            "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               BEGIN RAISE 'inside' USING ERRCODE = 'ZZ999'; EXCEPTION WHEN OTHERS THEN NULL; END;
               IF new.sku = 'a' THEN RAISE 'no a' USING ERRCODE = 'SHOP1', DETAIL = 'none at all'; END IF;
               IF new.sku = 'b' THEN PERFORM 1 / 0; END IF;
               RETURN new; END $$;
             CREATE TRIGGER picky BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION picky();
             INSERT INTO stock VALUES ('d', 1, 'checked');
             ALTER TABLE stock ADD CHECK (note <> 'checked' OR stock = 1)",
        )
        .await;
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "b", 1), ("3", "d", 1)]).await;
    db.connect("postgres").await.run(DRAIN).await;
    let poisoned = owner.rows("SELECT order_id, sqlstate, reason FROM bulkhead.poisoned_orders('stock')").await;
    assert_eq!(poisoned[0], ["1", "SHOP1", "no a (none at all)"]);
    assert_eq!(poisoned[1], ["2", "22012", "division by zero"]);
    assert_eq!(poisoned[2][..2], ["3", "23514"]);
}

/// Three orders that are set aside, for as long as there is the constraint.
async fn poisoned(db: &Database) {
    let owner = stock(db).await;
    owner.run("ALTER TABLE stock ADD CONSTRAINT closed CHECK (sku <> 'a' OR stock >= 10)").await;
    queue(db, "app", "stock", &[("1", "a", 1), ("2", "a", 2), ("3", "b", 1), ("4", "a", 4)]).await;
    db.connect("postgres").await.run(DRAIN).await;
    assert_eq!(left(&owner).await, ["a 10", "b 4", "c 0"]);
    owner.run("ALTER TABLE stock DROP CONSTRAINT closed").await;
}

async fn it_is_queued_again_or_forgotten(db: Database) {
    poisoned(&db).await;
    let (boss, app) = (db.connect("postgres").await, db.connect("app").await);
    assert_eq!(boss.column("SELECT number FROM bulkhead.all_poisoned_orders('stock')").await, ["1", "2", "4"]);
    // What is rolled back has not happened.
    boss.run("BEGIN; SELECT bulkhead.requeue_poisoned('stock'), bulkhead.forget_poisoned('stock'); ROLLBACK").await;
    assert_eq!(boss.one("SELECT bulkhead.forget_poisoned('stock', '{2, NULL, 77}')").await, "1");
    assert_eq!(boss.one("SELECT bulkhead.forget_poisoned('stock', '{2}')").await, "0");
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('stock', '{4}')").await, "1");
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('stock', '{4}')").await, "0");
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('stock')").await, "1");
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('stock')").await, "0");
    assert_eq!(app.one("SELECT count(*) FROM bulkhead.poisoned_orders('stock')").await, "0");
    boss.run(DRAIN).await;
    // In the order in which they were queued again.
    assert_eq!(stored(&app, "stock", "4").await, ["a accepted 6"]);
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 5"]);
    assert!(stored(&app, "stock", "2").await.is_empty());
    boss.refused("SELECT bulkhead.requeue_poisoned(NULL)").await.state("22023");
    boss.refused("SELECT bulkhead.forget_poisoned(NULL)").await.state("22023");
    boss.refused("SELECT bulkhead.requeue_poisoned('pg_class')").await.state("55000");
    boss.refused("BEGIN READ ONLY; SELECT bulkhead.requeue_poisoned('stock')").await.state("25006");
}

async fn queued_again_by_two_at_once_it_is_queued_once(db: Database) {
    let owner = stock(&db).await;
    owner.run("UPDATE stock SET stock = 500; ALTER TABLE stock ADD CONSTRAINT closed CHECK (stock = 500)").await;
    let app = db.connect("app").await;
    app.run("SELECT count(bulkhead.enqueue_decrement('stock', n::text, 'a', 1)) FROM generate_series(1, 300) n").await;
    db.connect("postgres").await.run(DRAIN).await;
    owner.run("ALTER TABLE stock DROP CONSTRAINT closed").await;
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..4 {
        let db = db.clone();
        sessions.spawn(async move {
            let boss = db.connect("postgres").await;
            let mut queued = 0;
            for round in 0..25 {
                let first = 1 + (session * 7 + round * 12) % 300;
                let call = format!(
                    "SELECT bulkhead.requeue_poisoned('stock', (SELECT array_agg(n) FROM generate_series({first}, {first} + 40) n))"
                );
                queued += boss.one(&call).await.parse::<i64>().unwrap();
                boss.run("CALL bulkhead.drain_inventory('stock', 10, 1)").await;
            }
            queued
        });
    }
    let mut queued = 0;
    while let Some(session) = sessions.join_next().await {
        queued += session.unwrap();
    }
    assert_eq!(queued, 300);
    db.connect("postgres").await.run(DRAIN).await;
    assert_eq!(left(&app).await[0], "a 200");
}

async fn nobodys_orders_are_shown_to_who_drains(db: Database) {
    let owner = shops(&db).await;
    owner.run("GRANT SELECT, UPDATE ON shops TO app").await;
    for (tenant, order) in [(A, "1"), (B, "2")] {
        let client = acting(&db, "app", tenant).await;
        client.run(&format!("SELECT bulkhead.enqueue_decrement('shops', '{order}', 'x', 1)")).await;
    }
    let boss = db.connect("postgres").await;
    boss.run("BEGIN; SELECT bulkhead.begin_bypass('test'); SELECT bulkhead.unprotect('shops'); COMMIT").await;
    owner
        .run(
            "DELETE FROM shops WHERE quantity = 3; ALTER TABLE shops DROP CONSTRAINT shops_pkey, ADD PRIMARY KEY (id);
             SELECT bulkhead.register_inventory('shops')",
        )
        .await;
    boss.run("CALL bulkhead.drain_inventory('shops')").await;
    assert_eq!(owner.one("SELECT count(*) FROM bulkhead.poisoned_orders('shops')").await, "0");
    let all = "SELECT relation, tenant, order_id, items, quantities, sqlstate, reason LIKE '%belongs to no tenant of the table now' FROM bulkhead.all_poisoned_orders()";
    assert_eq!(
        boss.rows(all).await,
        [["shops", A, "1", "{x}", "{1}", "55000", "t"], ["shops", B, "2", "{x}", "{1}", "55000", "t"]]
    );
    // Nobody's they stay, until the table has its tenants again.
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('shops')").await, "0");
    assert_eq!(boss.one("SELECT bulkhead.forget_poisoned('shops', '{2}')").await, "1");
    owner.run("ALTER TABLE shops DROP CONSTRAINT shops_pkey, ADD PRIMARY KEY (tenant_id, id); SELECT bulkhead.protect('shops'); SELECT bulkhead.register_inventory('shops')").await;
    assert_eq!(boss.one("SELECT bulkhead.requeue_poisoned('shops')").await, "1");
    boss.run("CALL bulkhead.drain_inventory('shops')").await;
    assert_eq!(stored(&acting(&db, "app", A).await, "shops", "1").await, ["x accepted 9"]);
}

async fn only_who_may_sees_or_touches_it(db: Database) {
    poisoned(&db).await;
    for role in ["app", "owner", "svc"] {
        let client = db.connect(role).await;
        for call in [
            "all_poisoned_orders()",
            "all_poisoned_orders('stock')",
            "requeue_poisoned('stock')",
            "forget_poisoned('stock')",
        ] {
            client.refused(&format!("SELECT * FROM bulkhead.{call}")).await.state("42501");
        }
    }
    db.admin("GRANT EXECUTE ON FUNCTION bulkhead.all_poisoned_orders, bulkhead.requeue_poisoned, bulkhead.forget_poisoned TO app").unwrap();
    let app = db.connect("app").await;
    assert_eq!(app.column("SELECT order_id FROM bulkhead.all_poisoned_orders()").await, ["1", "2", "4"]);
    assert_eq!(app.one("SELECT bulkhead.requeue_poisoned('stock', '{1}')").await, "1");
    assert_eq!(app.one("SELECT bulkhead.forget_poisoned('stock')").await, "2");
}

async fn a_dropped_tables_orders_are_set_aside(db: Database) {
    let owner = stock(&db).await;
    let number = owner.one("SELECT 'stock'::regclass::oid").await;
    queue(&db, "app", "stock", &[("1", "a", 1), ("2", "b", 1)]).await;
    owner.run("BEGIN; DROP TABLE stock; ROLLBACK").await;
    owner.notices();
    db.connect("postgres").await.run("CALL bulkhead.drain_inventory('stock', 1, 1)").await;
    assert_eq!(decide(&owner, "stock", &[("1", "a", "1")]).await, ["accepted 9"]);
    owner.run("DROP TABLE stock").await;
    assert_eq!(
        owner.notices(),
        [
            "WARNING: 1 queued order was set aside, because its table was dropped; bulkhead.all_poisoned_orders() lists them"
        ]
    );
    let boss = db.connect("postgres").await;
    let all = "SELECT relation::oid, order_id, sqlstate, reason FROM bulkhead.all_poisoned_orders()";
    assert_eq!(boss.rows(all).await, [[number.as_str(), "2", "42P01", "its table was dropped"]]);
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.inventory").unwrap(), "0");
    assert_eq!(boss.one(&format!("SELECT bulkhead.forget_poisoned({number})")).await, "1");
    assert_eq!(boss.one("SELECT count(*) FROM bulkhead.all_poisoned_orders()").await, "0");
}
