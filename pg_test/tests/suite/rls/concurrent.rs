//! protect() beside other sessions: who waits for whom, and what each sees then.

use libtest_mimic::Trial;
use pg_test::Database;
use pg_test::interleave::Interleaving;

use super::fixture::{
    A, B, NOTHING, OF_A, assert_same, bare_orders, bare_orders_past_the_seal, orders_past_the_seal, picture,
    registered, seen_by,
};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        two_protects_are_one,
        two_protects_of_different_columns_come_one_after_the_other,
        protect_waits_for_a_reader,
        a_reader_waits_for_protect_and_is_refused,
        an_insert_waits_for_protect_and_is_checked,
        an_insert_before_protect_is_counted,
        a_rolled_back_protect_lets_the_reader_read,
        unprotect_waits_for_a_reader,
        protect_and_unprotect_come_one_after_the_other,
        protects_of_many_tables_do_not_deadlock,
        a_partition_that_is_attached_during_protect_is_protected,
        a_protect_with_an_old_snapshot_does_no_half_work,
    ]
}

async fn two_protects_are_one(db: Database) {
    bare_orders(&db).await;
    Interleaving::new(&db)
        .role("a", "owner")
        .role("b", "owner")
        .steps(
            "a: BEGIN
             a: SELECT count(*) FROM bulkhead.protect('orders')
             b: SELECT count(*) FROM bulkhead.protect('orders')
             a: COMMIT",
        )
        .gives(
            "a: BEGIN
             ok
             a: SELECT count(*) FROM bulkhead.protect('orders')
             count
             7
             (1 row)
             b: SELECT count(*) FROM bulkhead.protect('orders') <waiting ...>
             a: COMMIT
             ok
             b: SELECT count(*) FROM bulkhead.protect('orders') <... completed>
             count
             0
             (1 row)",
        )
        .await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    assert_eq!(
        owner.column("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'orders'::regclass").await,
        ["orders_pkey"]
    );
    assert_eq!(owner.column("SELECT polname FROM pg_policy").await, NOTHING);
}

async fn two_protects_of_different_columns_come_one_after_the_other(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run(&format!("ALTER TABLE orders ADD seller uuid DEFAULT '{A}'")).await;
    Interleaving::new(&db)
        .role("a", "owner")
        .role("b", "owner")
        .steps(
            "a: BEGIN
             a: SELECT count(*) > 0 AS done FROM bulkhead.protect('orders')
             b: SELECT count(*) > 0 AS done FROM bulkhead.protect('orders', 'seller')
             a: COMMIT",
        )
        .gives(
            "a: BEGIN
             ok
             a: SELECT count(*) > 0 AS done FROM bulkhead.protect('orders')
             done
             t
             (1 row)
             b: SELECT count(*) > 0 AS done FROM bulkhead.protect('orders', 'seller') <waiting ...>
             a: COMMIT
             ok
             b: SELECT count(*) > 0 AS done FROM bulkhead.protect('orders', 'seller') <... completed>
             done
             t
             (1 row)",
        )
        .await;
    assert_eq!(registered(&owner).await, [["orders", "seller", "uuid", "f"]]);
    assert_eq!(seen_by(&db, A, "orders", "id").await.len(), 5);
    assert_eq!(seen_by(&db, B, "orders", "id").await, NOTHING);
}

async fn protect_waits_for_a_reader(db: Database) {
    bare_orders(&db).await;
    Interleaving::new(&db)
        .role("boss", "owner")
        .steps(
            "a: BEGIN
             a: SELECT count(*) FROM orders
             boss: SELECT count(*) FROM bulkhead.protect('orders')
             a: COMMIT
             a: SELECT count(*) FROM orders",
        )
        .gives(
            "a: BEGIN
             ok
             a: SELECT count(*) FROM orders
             count
             5
             (1 row)
             boss: SELECT count(*) FROM bulkhead.protect('orders') <waiting ...>
             a: COMMIT
             ok
             boss: SELECT count(*) FROM bulkhead.protect('orders') <... completed>
             count
             7
             (1 row)
             a: SELECT count(*) FROM orders
             ERROR 42501: no tenant context for protected table public.orders",
        )
        .await;
}

async fn a_reader_waits_for_protect_and_is_refused(db: Database) {
    bare_orders(&db).await;
    Interleaving::new(&db)
        .role("boss", "owner")
        .steps(
            "a: PREPARE q AS SELECT count(*) FROM orders
             a: EXECUTE q
             boss: BEGIN
             boss: SELECT count(*) FROM bulkhead.protect('orders')
             a: EXECUTE q
             b: SELECT count(*) FROM orders
             boss: COMMIT",
        )
        .gives(
            "a: PREPARE q AS SELECT count(*) FROM orders
             ok
             a: EXECUTE q
             count
             5
             (1 row)
             boss: BEGIN
             ok
             boss: SELECT count(*) FROM bulkhead.protect('orders')
             count
             7
             (1 row)
             a: EXECUTE q <waiting ...>
             b: SELECT count(*) FROM orders <waiting ...>
             boss: COMMIT
             ok
             a: EXECUTE q <... completed>
             ERROR 42501: no tenant context for protected table public.orders
             b: SELECT count(*) FROM orders <... completed>
             ERROR 42501: no tenant context for protected table public.orders",
        )
        .await;
}

async fn an_insert_waits_for_protect_and_is_checked(db: Database) {
    bare_orders(&db).await;
    let steps = format!(
        "a: BEGIN
         a: SET LOCAL bulkhead.tenant_context = '{A}'
         b: BEGIN
         b: SET LOCAL bulkhead.tenant_context = '{A}'
         boss: BEGIN
         boss: SELECT count(*) FROM bulkhead.protect('orders')
         a: INSERT INTO orders (id) VALUES (6)
         b: INSERT INTO orders VALUES (7, '{B}')
         boss: COMMIT
         a: COMMIT"
    );
    let transcript = Interleaving::new(&db).role("boss", "owner").steps(&steps).run().await;
    let expected = format!(
        "a: INSERT INTO orders (id) VALUES (6) <waiting ...>
b: INSERT INTO orders VALUES (7, '{B}') <waiting ...>
boss: COMMIT
ok
a: INSERT INTO orders (id) VALUES (6) <... completed>
1 row
b: INSERT INTO orders VALUES (7, '{B}') <... completed>
ERROR 42501: new row violates row-level security policy for table \"orders\""
    );
    assert!(transcript.contains(&expected), "{transcript}");
    // The row that was on its way has the tenant that the default gives.
    assert_eq!(seen_by(&db, A, "orders", "id").await, ["1", "2", "3", "6"]);
}

async fn an_insert_before_protect_is_counted(db: Database) {
    bare_orders(&db).await;
    Interleaving::new(&db)
        .role("boss", "owner")
        .steps(
            "a: BEGIN
             a: INSERT INTO orders (id) VALUES (6)
             boss: SELECT count(*) FROM bulkhead.protect('orders')
             a: COMMIT",
        )
        .gives(
            "a: BEGIN
             ok
             a: INSERT INTO orders (id) VALUES (6)
             1 row
             boss: SELECT count(*) FROM bulkhead.protect('orders') <waiting ...>
             a: COMMIT
             ok
             boss: SELECT count(*) FROM bulkhead.protect('orders') <... completed>
             ERROR 55000: public.orders has 1 rows without a tenant",
        )
        .await;
}

async fn a_rolled_back_protect_lets_the_reader_read(db: Database) {
    bare_orders(&db).await;
    Interleaving::new(&db)
        .role("boss", "owner")
        .steps(
            "boss: BEGIN
             boss: SELECT count(*) FROM bulkhead.protect('orders')
             a: SELECT count(*) FROM orders
             boss: ROLLBACK
             a: SELECT count(*) FROM bulkhead.protected_tables",
        )
        .gives(
            "boss: BEGIN
             ok
             boss: SELECT count(*) FROM bulkhead.protect('orders')
             count
             7
             (1 row)
             a: SELECT count(*) FROM orders <waiting ...>
             boss: ROLLBACK
             ok
             a: SELECT count(*) FROM orders <... completed>
             count
             5
             (1 row)
             a: SELECT count(*) FROM bulkhead.protected_tables
             count
             0
             (1 row)",
        )
        .await;
}

async fn unprotect_waits_for_a_reader(db: Database) {
    orders_past_the_seal(&db).await;
    let steps = format!(
        "a: BEGIN
         a: SET LOCAL bulkhead.tenant_context = '{A}'
         a: SELECT count(*) FROM orders
         boss: BEGIN
         boss: SELECT bulkhead.begin_bypass('retired')
         boss: SELECT count(*) > 0 AS done FROM bulkhead.unprotect('orders')
         a: SELECT count(*) FROM orders
         a: COMMIT"
    );
    let transcript = Interleaving::new(&db).role("boss", "owner").steps(&steps).run().await;
    let expected = "boss: SELECT count(*) > 0 AS done FROM bulkhead.unprotect('orders') <waiting ...>
a: SELECT count(*) FROM orders
count
3
(1 row)
a: COMMIT
ok
boss: SELECT count(*) > 0 AS done FROM bulkhead.unprotect('orders') <... completed>
done
t";
    assert!(transcript.contains(expected), "{transcript}");
}

async fn protect_and_unprotect_come_one_after_the_other(db: Database) {
    let owner = orders_past_the_seal(&db).await;
    Interleaving::new(&db)
        .role("a", "owner")
        .role("b", "owner")
        .steps(
            "a: BEGIN
             a: SELECT bulkhead.begin_bypass('retired')
             a: SELECT count(*) > 0 AS done FROM bulkhead.unprotect('orders')
             b: SELECT count(*) > 0 AS done FROM bulkhead.protect('orders')
             a: COMMIT",
        )
        .run()
        .await;
    // Whatever b decided on after its wait, what is registered and what is in force are the same.
    let protected = registered(&owner).await.len() == 1;
    let policies = owner.column("SELECT polname FROM pg_policy ORDER BY 1").await;
    let in_force =
        owner.one("SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname = 'orders'").await;
    assert_eq!(policies.len() == 2, protected, "{policies:?}");
    assert_eq!(in_force == "t", protected);
    owner.run("SELECT bulkhead.protect('orders')").await;
    assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    assert_eq!(owner.column("SELECT polname FROM pg_policy").await, NOTHING);
}

async fn protects_of_many_tables_do_not_deadlock(db: Database) {
    let owner = db.connect("owner").await;
    for i in 0..6 {
        owner
            .run(&format!(
                "CREATE TABLE t{i} (id int, tenant_id uuid) PARTITION BY RANGE (id);
                 CREATE TABLE t{i}a PARTITION OF t{i} FOR VALUES FROM (0) TO (10); CREATE TABLE t{i}b PARTITION OF t{i} DEFAULT"
            ))
            .await;
    }
    let mut calls = Vec::new();
    for session in 0..3 {
        let client = db.connect("owner").await;
        calls.push(tokio::spawn(async move {
            for round in 0..6 {
                let table = (round + session * 2) % 6;
                client.run(&format!("SELECT bulkhead.protect('t{table}')")).await;
            }
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(registered(&owner).await.len(), 18);
    assert_eq!(owner.one("SELECT count(*) FROM pg_policy").await, "36");
}

async fn a_partition_that_is_attached_during_protect_is_protected(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run("CREATE TABLE p (id int, tenant_id uuid) PARTITION BY RANGE (id); CREATE TABLE p1 (id int, tenant_id uuid NOT NULL)")
        .await;
    let transcript = Interleaving::new(&db)
        .role("a", "owner")
        .role("b", "owner")
        .steps(
            "a: BEGIN
             a: ALTER TABLE p ATTACH PARTITION p1 DEFAULT
             b: SELECT count(*) > 0 AS done FROM bulkhead.protect('p')
             a: COMMIT",
        )
        .run()
        .await;
    assert!(transcript.contains("<waiting ...>") && !transcript.contains("ERROR"), "{transcript}");
    assert_eq!(registered(&owner).await.len(), 2);
    owner.refused("TABLE p1").await.state("42501");
    // And the other way round: protect() first.
    owner.run("CREATE TABLE q (id int, tenant_id uuid) PARTITION BY RANGE (id); CREATE TABLE q1 (id int, tenant_id uuid NOT NULL)").await;
    let transcript = Interleaving::new(&db)
        .role("a", "owner")
        .role("b", "owner")
        .steps(
            "a: BEGIN
             a: SELECT count(*) > 0 AS done FROM bulkhead.protect('q')
             b: ALTER TABLE q ATTACH PARTITION q1 DEFAULT
             a: COMMIT",
        )
        .run()
        .await;
    assert!(transcript.contains("<waiting ...>") && !transcript.contains("ERROR"), "{transcript}");
    assert_eq!(registered(&owner).await.len(), 4);
    owner.refused("TABLE q1").await.state("42501");
}

async fn a_protect_with_an_old_snapshot_does_no_half_work(db: Database) {
    let owner = bare_orders_past_the_seal(&db).await;
    let other = db.connect("owner").await;
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        other.run(&format!("BEGIN ISOLATION LEVEL {isolation}")).await;
        other.run("SELECT count(*) FROM pg_policy").await;
        owner.run("SELECT bulkhead.protect('orders')").await;
        let protected = picture(&owner, "orders").await;
        // It may fail, or see that there is nothing to do.
        other.try_run("SELECT bulkhead.protect('orders')").await.ok();
        other.try_run("COMMIT").await.ok();
        assert_same(&picture(&owner, "orders").await, &protected, isolation);
        assert_eq!(seen_by(&db, A, "orders", "id").await, OF_A);
        owner.run("SELECT bulkhead.unprotect('orders')").await;
    }
    // The other way round: what it takes for protected is not any more.
    owner.run("SELECT bulkhead.protect('orders')").await;
    other.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    other.run("SELECT count(*) FROM pg_policy").await;
    owner.run("SELECT bulkhead.unprotect('orders')").await;
    other.try_run("SELECT bulkhead.protect('orders')").await.ok();
    other.try_run("COMMIT").await.ok();
    let policies = owner.one("SELECT count(*) FROM pg_policy").await;
    assert_eq!(policies == "2", registered(&owner).await.len() == 1, "{policies} policies");
}
