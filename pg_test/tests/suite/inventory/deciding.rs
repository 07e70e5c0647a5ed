//! What orders are told, and what is refused.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, call, decide, left, stock, stored, verdicts};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        first_come_first_served_and_greedily,
        an_order_of_several_lines_is_all_or_nothing,
        a_repeated_order_gets_its_verdict_and_nothing_else,
        a_rejection_stays_one_after_a_restock,
        the_same_order_with_other_lines_is_a_conflict,
        lines_that_ask_for_nothing_are_invalid,
        arrays_that_do_not_fit_are_refused,
        a_hundred_thousand_lines,
        items_of_every_type,
        orders_of_yesterday_are_known,
        it_is_part_of_the_transaction,
        the_table_is_left_as_its_owner_made_it,
        nothing_is_written_where_nothing_can_be,
    ]
}

async fn first_come_first_served_and_greedily(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    let told =
        decide(&app, "stock", &[("1", "a", "4"), ("2", "a", "7"), ("3", "a", "6"), ("4", "a", "1"), ("5", "z", "1")])
            .await;
    assert_eq!(told, ["accepted 6", "insufficient 6", "accepted 0", "insufficient 0", "unknown_item NULL"]);
    assert_eq!(left(&app).await, ["a 0", "b 5", "c 0"]);
    assert_eq!(verdicts(&db), "5");
    let one = app.rows("SELECT * FROM bulkhead.decrement_inventory('stock', '6', 'b', 2)").await;
    assert_eq!(one, [["1", "6", "b", "accepted", "3"]]);
}

async fn an_order_of_several_lines_is_all_or_nothing(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    // The lines of order 1 do not stand side by side.
    let lines = [
        ("1", "a", "1"),
        ("2", "b", "5"),
        ("1", "b", "6"),
        ("3", "a", "10"),
        ("3", "b", "1"),
        ("4", "a", "1"),
        ("4", "q", "1"),
    ];
    let told = decide(&app, "stock", &lines).await;
    assert_eq!(
        told,
        [
            "rejected 10",
            "accepted 0",
            "insufficient 5",
            "rejected 10",
            "insufficient 0",
            "rejected 10",
            "unknown_item NULL"
        ]
    );
    assert_eq!(left(&app).await, ["a 10", "b 0", "c 0"]);
    assert_eq!(stored(&app, "stock", "1").await, ["a rejected 10", "b insufficient 5"]);
}

async fn a_repeated_order_gets_its_verdict_and_nothing_else(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    let lines = [("1", "a", "4"), ("1", "b", "1"), ("2", "a", "9"), ("3", "nowhere", "1")];
    let first = decide(&app, "stock", &lines).await;
    assert_eq!(first, ["accepted 6", "accepted 4", "insufficient 6", "unknown_item NULL"]);
    for _ in 0..3 {
        assert_eq!(decide(&app, "stock", &lines).await, first);
    }
    // In another order of lines, among others, and with the item's own row gone.
    let again = [("9", "a", "1"), ("1", "b", "1"), ("1", "a", "4")];
    assert_eq!(decide(&app, "stock", &again).await, ["accepted 5", "accepted 4", "accepted 6"]);
    db.connect("owner").await.run("DELETE FROM stock WHERE sku = 'b'").await;
    assert_eq!(decide(&app, "stock", &lines).await, first);
    assert_eq!(left(&app).await, ["a 5", "c 0"]);
    assert_eq!(verdicts(&db), "5");
}

async fn a_rejection_stays_one_after_a_restock(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    assert_eq!(decide(&app, "stock", &[("1", "c", "1")]).await, ["insufficient 0"]);
    app.run("UPDATE stock SET stock = 100 WHERE sku = 'c'").await;
    assert_eq!(decide(&app, "stock", &[("1", "c", "1"), ("2", "c", "1")]).await, ["insufficient 0", "accepted 99"]);
}

async fn the_same_order_with_other_lines_is_a_conflict(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "4")]).await;
    for lines in
        [&[("1", "a", "3")][..], &[("1", "b", "4")], &[("1", "a", "4"), ("1", "b", "1")], &[("1", "a", "NULL")]]
    {
        let told = decide(&app, "stock", lines).await;
        assert!(told.iter().all(|told| told == "conflict NULL"), "{told:?}");
    }
    assert_eq!(left(&app).await, ["a 6", "b 5", "c 0"]);
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 6"]);
}

async fn lines_that_ask_for_nothing_are_invalid(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    let lines = [
        ("1", "a", "0"),
        ("2", "a", "-1"),
        ("3", "a", "NULL"),
        ("4", "NULL", "1"),
        ("NULL", "a", "1"),
        ("NULL", "a", "1"),
        ("", "a", "1"),
        ("5", "a", "1"),
        ("5", "b", "1"),
        ("5", "a", "1"),
        ("6", "a", "9223372036854775807"),
        ("7", "a", "-9223372036854775808"),
    ];
    let first = decide(&app, "stock", &lines).await;
    let invalid = "invalid NULL";
    assert_eq!(
        first,
        [
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            "rejected 5",
            invalid,
            "insufficient 10",
            invalid
        ]
    );
    assert_eq!(decide(&app, "stock", &lines).await, first);
    assert_eq!(left(&app).await, ["a 10", "b 5", "c 0"]);
    assert_eq!(stored(&app, "stock", "3").await, ["a invalid NULL"]);
    let echoed = app
        .rows(&format!("SELECT line, order_id, item FROM {}", call("stock", &[("NULL", "NULL", "1"), ("", "", "1")])))
        .await;
    assert_eq!(echoed, [["1", "NULL", "NULL"], ["2", "", ""]]);
}

async fn arrays_that_do_not_fit_are_refused(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    let of = |arguments: &str| format!("SELECT * FROM bulkhead.decrement_inventory({arguments})");
    assert!(app.rows(&of("'stock', '{}', '{}', '{}'::int8[]")).await.is_empty());
    for arguments in [
        "'stock', '{1}', '{a,b}', '{1}'::int8[]",
        "'stock', '{1}', '{a}', '{}'::int8[]",
        "'stock', NULL, '{a}', '{1}'::int8[]",
        "'stock', '{1}', NULL, '{1}'::int8[]",
        "'stock', '{1}', '{a}', NULL::int8[]",
        "NULL::regclass, '{1}', '{a}', '{1}'::int8[]",
        "'stock', '{{1},{2}}', '{a,b}', '{1,1}'::int8[]",
    ] {
        app.refused(&of(arguments)).await.state("22023");
    }
    app.refused(&of("'pg_class', '{1}', '{a}', '{1}'::int8[]"))
        .await
        .state("55000")
        .message("pg_catalog.pg_class is not registered as an inventory");
}

async fn a_hundred_thousand_lines(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    let many = |lines: i32| {
        format!(
            "SELECT verdict, count(*) FROM (SELECT array_agg(n::text) AS ids, array_agg(CASE WHEN n % 2 = 0 THEN 'a' ELSE 'i' || n END) AS items,
               array_agg(1::bigint) AS ones FROM generate_series(1, {lines}) n) l, bulkhead.decrement_inventory('stock', ids, items, ones)
             GROUP BY verdict ORDER BY verdict"
        )
    };
    assert_eq!(
        app.rows(&many(100_000)).await,
        [["accepted", "10"], ["insufficient", "49990"], ["unknown_item", "50000"]]
    );
    assert_eq!(left(&app).await, ["a 0", "b 5", "c 0"]);
    assert_eq!(verdicts(&db), "100000");
    app.refused(&many(100_001)).await.state("22023").message("100001 lines are more than a call takes");
}

async fn items_of_every_type(db: Database) {
    let owner = db.connect("owner").await;
    let types = [
        ("u", "uuid", A, "A0EEBC999C0B4EF8BB6D6BB9BD380A11"),
        ("i", "int", "7", "007"),
        ("l", "bigint", "9000000000", "+9000000000"),
        ("v", "varchar(40)", "K", "K"),
    ];
    for (table, of_type, item, other_form) in types {
        owner
            .run(&format!(
                "CREATE TABLE {table} (id {of_type} PRIMARY KEY, quantity bigint NOT NULL);
                 INSERT INTO {table} VALUES ('{item}', 5);
                 SELECT bulkhead.register_inventory('{table}')"
            ))
            .await;
        let lines =
            [("1", item, "2"), ("2", other_form, "2"), ("3", "not one", "1"), ("4", item, "1"), ("4", other_form, "1")];
        let told = decide(&owner, table, &lines).await;
        assert_eq!(
            told,
            ["accepted 3", "accepted 1", "unknown_item NULL", "invalid NULL", "invalid NULL"],
            "{of_type}"
        );
        assert_eq!(decide(&owner, table, &[("1", other_form, "2")]).await, ["accepted 3"], "{of_type}");
    }
}

/// Attaches a partition of a day before and moves all verdicts there.
fn age(db: &Database, days: i32) {
    let day = format!("((now() AT TIME ZONE 'UTC')::date - {days})");
    db.admin(&format!(
        "DO $$ BEGIN
           CREATE TABLE bulkhead.order_verdict_{days}_ago (LIKE bulkhead.order_verdict, PRIMARY KEY (digest, line));
           EXECUTE format('ALTER TABLE bulkhead.order_verdict ATTACH PARTITION bulkhead.order_verdict_{days}_ago
                           FOR VALUES FROM (%L) TO (%L)', {day} || ' 00:00:00+00', {day} + 1 || ' 00:00:00+00');
         END $$;
         UPDATE bulkhead.order_verdict SET decided_at = decided_at - interval '{days} days'"
    ))
    .unwrap();
}

async fn orders_of_yesterday_are_known(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "4")]).await;
    age(&db, 6);
    assert_eq!(decide(&app, "stock", &[("1", "a", "4"), ("2", "a", "1")]).await, ["accepted 6", "accepted 5"]);
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 6"]);
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', '1')").await, "1");
    assert_eq!(app.one("SELECT bulkhead.release_order('stock', '1')").await, "0");
    assert_eq!(left(&app).await, ["a 9", "b 5", "c 0"]);
    // Past retention it is a new one.
    let late = db.connect("postgres").await;
    late.run("SET bulkhead.order_retention = '2d'").await;
    assert!(stored(&late, "stock", "1").await.is_empty());
    // maintain() drops what is past retention.
    db.admin("ALTER DATABASE CURRENT SET bulkhead.order_retention = '2d'").unwrap_or_default();
    late.run("SET bulkhead.order_retention = '2d'").await;
    late.run("CALL bulkhead.maintain()").await;
    assert_eq!(late.one("SELECT to_regclass('bulkhead.order_verdict_6_ago') IS NULL").await, "t");
}

async fn it_is_part_of_the_transaction(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    app.run("BEGIN").await;
    assert_eq!(decide(&app, "stock", &[("1", "a", "4")]).await, ["accepted 6"]);
    assert_eq!(decide(&app, "stock", &[("1", "a", "4")]).await, ["accepted 6"], "its own");
    app.run("SAVEPOINT s").await;
    assert_eq!(decide(&app, "stock", &[("2", "a", "1")]).await, ["accepted 5"]);
    app.run("ROLLBACK TO s").await;
    assert_eq!(decide(&app, "stock", &[("2", "a", "2")]).await, ["accepted 4"]);
    app.run("ROLLBACK").await;
    assert_eq!(verdicts(&db), "0");
    assert_eq!(decide(&app, "stock", &[("1", "a", "3"), ("2", "a", "2")]).await, ["accepted 7", "accepted 5"]);
    // In the middle of a statement, many times.
    let rows = app
        .column("SELECT (bulkhead.decrement_inventory('stock', 'n' || n, 'b', 2)).verdict FROM generate_series(1, 3) n")
        .await;
    assert_eq!(rows, ["accepted", "accepted", "insufficient"]);
}

/// Other columns, a trigger, a constraint, a renamed table and column, rows that are not asked for.
async fn the_table_is_left_as_its_owner_made_it(db: Database) {
    let owner = stock(&db).await;
    let app = db.connect("app").await;
    owner
        .run(
            "CREATE TABLE history (sku text, change int);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
               INSERT INTO public.history VALUES (new.sku, new.stock - old.stock);
               RETURN new; END $$;
             CREATE TRIGGER note AFTER UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION note();",
        )
        .await;
    let ctids = "SELECT string_agg(ctid::text, ' ' ORDER BY sku) FROM stock WHERE sku <> 'a'";
    let before = app.one(ctids).await;
    decide(&app, "stock", &[("1", "a", "1"), ("2", "a", "2"), ("3", "b", "9")]).await;
    assert_eq!(app.one(ctids).await, before, "rows that lose nothing are not written");
    assert_eq!(app.rows("SELECT * FROM history").await, [["a", "-3"]], "one UPDATE of an item");
    assert_eq!(app.column("SELECT DISTINCT note FROM stock").await, ["left alone"]);
    // What a constraint says reaches the client whole, and nothing has changed.
    owner.run("ALTER TABLE stock ADD CONSTRAINT few CHECK (stock > 4) NOT VALID").await;
    let error = app
        .simple_query(&format!("SELECT * FROM {}", call("stock", &[("4", "b", "1"), ("5", "a", "1")])))
        .await
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.constraint(), error.table()), ("23514", Some("few"), Some("stock")));
    assert_eq!(left(&app).await, ["a 7", "b 5", "c 0"]);
    assert!(stored(&app, "stock", "5").await.is_empty());
    owner.run("ALTER TABLE stock DROP CONSTRAINT few; DROP TRIGGER note ON stock").await;
    owner.run("ALTER TABLE stock RENAME TO shelf; ALTER TABLE shelf RENAME stock TO pieces; CREATE TABLE stock (sku text, stock int)").await;
    assert_eq!(decide(&app, "shelf", &[("1", "a", "1"), ("6", "a", "1")]).await, ["accepted 9", "accepted 6"]);
    // A trigger that keeps a row from being written.
    owner
        .run(
            "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER never BEFORE UPDATE ON shelf FOR EACH ROW EXECUTE FUNCTION never();",
        )
        .await;
    app.refused("SELECT * FROM bulkhead.decrement_inventory('shelf', '7', 'a', 1)")
        .await
        .state("55000")
        .message("only 0 of 1 rows of public.shelf could be updated");
}

async fn nothing_is_written_where_nothing_can_be(db: Database) {
    stock(&db).await;
    let app = db.connect("app").await;
    decide(&app, "stock", &[("1", "a", "1")]).await;
    app.run("SET default_transaction_read_only = on").await;
    for sql in [
        "SELECT * FROM bulkhead.decrement_inventory('stock', '2', 'a', 1)",
        "SELECT bulkhead.release_order('stock', '1')",
        "SELECT bulkhead.enqueue_decrement('stock', '2', 'a', 1)",
    ] {
        app.refused(sql).await.state("25006");
    }
    assert_eq!(stored(&app, "stock", "1").await, ["a accepted 9"]);
}
