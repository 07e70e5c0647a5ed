//! What cannot be managed, by whom, and why.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{events, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        tables_that_cannot_be_managed,
        numbers_that_make_no_sense,
        only_the_owner_manages,
        only_who_may_maintain_does,
        holds_need_a_reason_and_a_partition,
        a_table_that_became_unfit_is_reported,
        dropping_a_table_forgets_it,
    ]
}

async fn tables_that_cannot_be_managed(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE plain (at timestamptz);
             CREATE TABLE listed (at date) PARTITION BY LIST (at);
             CREATE TABLE two (at date, n int) PARTITION BY RANGE (at, n);
             CREATE TABLE computed (at timestamp) PARTITION BY RANGE (date_trunc('day', at));
             CREATE TABLE numbers (at bigint) PARTITION BY RANGE (at);
             CREATE TEMP TABLE fleeting (at date) PARTITION BY RANGE (at);
             CREATE TABLE whole (at date) PARTITION BY RANGE (at);
             CREATE TABLE part PARTITION OF whole FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') PARTITION BY RANGE (at);
             CREATE TABLE catching (at date) PARTITION BY RANGE (at); CREATE TABLE rest PARTITION OF catching DEFAULT",
        )
        .await;
    for (table, state, reason) in [
        ("plain", "22023", "it is not partitioned"),
        ("listed", "22023", "it is not partitioned by range"),
        ("two", "22023", "it is partitioned by more than one column"),
        ("computed", "22023", "it is partitioned by an expression"),
        ("numbers", "22023", "it is partitioned by a column of type bigint"),
        ("fleeting", "22023", "it is temporary"),
        ("part", "22023", "it is itself a partition"),
        ("whole", "22023", "partition public.part is partitioned again, or foreign"),
        ("catching", "55000", "partition public.rest of public.catching is DEFAULT"),
    ] {
        let refused = owner.refused(&format!("SELECT bulkhead.manage_partitions('{table}', '1 day', '3 days')")).await;
        let refused = refused.state(state).message_contains(reason);
        assert!(!refused.hint.is_empty(), "{table}");
    }
    owner.refused("SELECT bulkhead.manage_partitions(NULL, '1 day', '3 days')").await.state("22023");
    owner.refused("SELECT bulkhead.manage_partitions(1::oid::regclass, '1 day', '3 days')").await.state("22023");
    assert_eq!(
        owner.one("SELECT string_agg(parent::text, ' ' ORDER BY parent::text) FROM bulkhead.managed_partitions").await,
        "bulkhead.idempotency_key bulkhead.order_verdict"
    );
}

async fn numbers_that_make_no_sense(db: Database) {
    let owner = events(&db).await;
    for (arguments, reason) in [
        ("'0', '3 days'", "it is not longer than nothing"),
        ("'-1 day', '3 days'", "it is not longer than nothing"),
        ("'1 month 1 day', '1 year'", "months, which differ in length, are mixed"),
        ("'1 month 1 hour', '1 year'", "months, which differ in length, are mixed"),
        ("'1 second', '3 days'", "it is shorter than a minute"),
        ("'1000 years', '1000 years'", "it is longer than a hundred years"),
        ("'1 day', '1 hour'", "retain is shorter than every"),
        ("'1 day', '-3 days'", "retain has a part that is negative"),
        // In March it is less than nothing, and the present partition would be gone.
        ("'1 hour', '1 month -30 days 1 hour'", "retain has a part that is negative"),
        ("'1 day', '3 days', 0", "premake is 0"),
        ("'1 day', '3 days', -1", "premake is -1"),
        ("'1 day', '3 days', 1001", "premake is 1001"),
        ("'100 years', '100 years', 500", "goes beyond the year 9999"),
        ("NULL, '3 days'", "every must not be NULL"),
        ("'1 day', NULL", "retain must not be NULL"),
        ("'1 day', '3 days', NULL", "premake must not be NULL"),
    ] {
        let refused = owner.refused(&format!("SELECT bulkhead.manage_partitions('events', {arguments})")).await;
        refused.state("22023").message_contains(reason);
    }
    owner.run("CREATE TABLE daily (at date) PARTITION BY RANGE (at)").await;
    let refused = owner.refused("SELECT bulkhead.manage_partitions('daily', '6 hours', '3 days')").await;
    refused.state("22023").message_contains("no whole number of days");
    for function in ["length(text)", "pg_relation_size(regclass, text)", "bulkhead.unprotect(regclass)"] {
        let call = format!(
            "SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => '{function}'::regprocedure)"
        );
        owner.refused(&call).await.state("22023").message_contains("one argument of type regclass");
    }
}

async fn only_the_owner_manages(db: Database) {
    let owner = managed(&db, 1).await;
    for role in ["app", "svc"] {
        let other = db.connect(role).await;
        for call in [
            "manage_partitions('events', '1 day', '30 days')",
            "unmanage_partitions('events')",
            "hold_partition('events_1', 'x')",
            "release_hold('events_1')",
            "ensure_partitions('events')",
            "partition_plan('events', 'at', '1 day')",
        ] {
            other
                .refused(&format!("SELECT bulkhead.{call}"))
                .await
                .state("42501")
                .message_contains("must be owner of table");
        }
        for table in ["managed_partition", "partition_hold", "partition_archived", "maintenance_log"] {
            other.refused(&format!("TABLE bulkhead.{table}")).await.state("42501");
            other.refused(&format!("DELETE FROM bulkhead.{table}")).await.state("42501");
        }
    }
    owner.run("SELECT bulkhead.unmanage_partitions('events')").await;
    owner
        .refused("SELECT bulkhead.unmanage_partitions('events')")
        .await
        .state("55000")
        .message_contains("are not managed");
    maintain(&db).await;
    assert_eq!(owner.one("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass").await, "1");
}

async fn only_who_may_maintain_does(db: Database) {
    managed(&db, 0).await;
    let app = db.connect("app").await;
    app.refused("CALL bulkhead.maintain()").await.state("42501");
    app.refused("SELECT bulkhead.maintenance_step()")
        .await
        .state("42501")
        .message("permission denied for procedure bulkhead.maintain");
    app.refused("SELECT * FROM bulkhead.health()").await.state("42501");
    app.refused("SELECT bulkhead.schedule_maintenance()").await.state("42501");
    db.admin("GRANT EXECUTE ON PROCEDURE bulkhead.maintain() TO app").unwrap();
    app.run("CALL bulkhead.maintain()").await;
    let postgres = db.connect("postgres").await;
    assert_eq!(postgres.one("SELECT count(*) FROM pg_class WHERE relname LIKE 'events\\_p%' AND relkind = 'r' AND relowner = 'owner'::regrole").await, "4");
    app.refused("BEGIN; CALL bulkhead.maintain()").await.state("2D000");
    app.run("ROLLBACK").await;
    app.run("SET default_transaction_read_only = on").await;
    let read_only = app.refused("CALL bulkhead.maintain()").await;
    read_only.state("25006").message_contains("this transaction is read-only");
}

async fn holds_need_a_reason_and_a_partition(db: Database) {
    let owner = managed(&db, 1).await;
    owner.run("CREATE TABLE other (at date) PARTITION BY RANGE (at); CREATE TABLE theirs PARTITION OF other DEFAULT; CREATE TABLE plain ()").await;
    for (arguments, state) in [
        ("'events_1', NULL", "22023"),
        ("'events_1', '  '", "22023"),
        ("NULL, 'x'", "22023"),
        ("'plain', 'x'", "55000"),
        ("'theirs', 'x'", "55000"),
        ("'events', 'x'", "55000"),
    ] {
        owner.refused(&format!("SELECT bulkhead.hold_partition({arguments})")).await.state(state);
    }
    owner.refused("SELECT bulkhead.release_hold('events_1')").await.state("55000").message_contains("is not held");
}

async fn a_table_that_became_unfit_is_reported(db: Database) {
    let owner = managed(&db, 0).await;
    owner.run("CREATE TABLE rest PARTITION OF events DEFAULT").await;
    maintain(&db).await;
    let said = super::fixture::complaints(&db).await;
    assert!(said.iter().all(|said| said.contains("partition public.rest of public.events is DEFAULT")), "{said:?}");
    assert!(!said.is_empty());
}

async fn dropping_a_table_forgets_it(db: Database) {
    let owner = managed(&db, 1).await;
    owner.run("DROP TABLE events").await;
    assert_eq!(db.admin("SELECT count(*) FROM bulkhead.managed_partition WHERE retain IS NOT NULL").unwrap(), "0");
    maintain(&db).await;
}
