//! on_expire: called once for each expired partition, as the table's owner, with all of its rows in sight and no other protected table's.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, complaints, leaves, maintain, managed};
use crate::harness::WithoutPreload;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_protected_partition_is_archived_whole,
        without_preloading_too,
        a_failure_keeps_the_partition,
        it_sees_no_other_protected_table,
        it_is_called_once,
        it_runs_as_the_owner_and_restricted,
        nothing_is_left_of_its_sight,
        a_protected_table_needs_a_bypass,
        it_may_drop_the_partition_itself,
        a_function_that_is_gone_keeps_the_partition,
        another_roles_function_of_that_name_is_not_called,
        everybody_may_see_what_is_managed,
    ]
}

const ARCHIVE: &str = "CREATE SCHEMA archive;
    CREATE FUNCTION archive.keep(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
      EXECUTE format('CREATE TABLE archive.%I AS SELECT * FROM %s', (SELECT relname FROM pg_catalog.pg_class WHERE oid = partition), partition);
    END $$;";

/// Five days of protected events whose owner archives by `function`.
async fn archived(db: &Database, before: &str, function: &str) -> Client {
    let owner = managed(db, 5).await;
    db.admin("GRANT CREATE ON DATABASE current TO owner".replace("current", &db.name).as_str()).unwrap();
    owner.run(before).await;
    owner.run("SELECT bulkhead.protect('events')").await;
    let past = db.past_the_seal("owner").await;
    past.run(&format!(
        "SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => '{function}'::regprocedure)"
    ))
    .await;
    owner
}

async fn a_protected_partition_is_archived_whole(db: Database) {
    let owner = archived(&db, ARCHIVE, "archive.keep(regclass)").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    assert_eq!(leaves(&owner).await[0], "events_3");
    for day in [4, 5] {
        assert_eq!(owner.one(&format!("SELECT count(DISTINCT tenant_id) FROM archive.events_{day}")).await, "2");
    }
    let actions = db.admin("SELECT string_agg(action, ' ' ORDER BY id) FROM bulkhead.maintenance_log WHERE partition = 'public.events_5'").unwrap();
    assert_eq!(actions, "archive empty drop");
    assert_eq!(
        db.admin("SELECT count(*) FROM bulkhead.partition_archived").unwrap(),
        "0",
        "forgotten with the partition"
    );
}

async fn without_preloading_too(db: WithoutPreload) {
    let owner = archived(&db, ARCHIVE, "archive.keep(regclass)").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    assert_eq!(owner.one("SELECT count(*) FROM archive.events_5").await, "2");
    assert_eq!(leaves(&owner).await[0], "events_3");
}

async fn a_failure_keeps_the_partition(db: Database) {
    let fails = "CREATE FUNCTION fails(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
                 BEGIN IF partition::text LIKE '%5' THEN RAISE 'the archive is full'; END IF; END $$";
    let owner = archived(&db, fails, "fails(regclass)").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, ["archive: the archive is full"]);
    assert_eq!(leaves(&owner).await[..2], ["events_5", "events_3"]);
    db.past_the_seal("postgres")
        .await
        .run("CREATE OR REPLACE FUNCTION public.fails(partition regclass) RETURNS void LANGUAGE sql AS ''")
        .await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3");
}

async fn it_sees_no_other_protected_table(db: Database) {
    let nosy = format!(
        "CREATE TABLE secrets (tenant_id uuid, secret text); INSERT INTO secrets VALUES ('{A}', 's'); SELECT bulkhead.protect('secrets');
         CREATE TABLE loot (what text);
         CREATE FUNCTION nosy(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
         DECLARE source text; BEGIN
           FOREACH source IN ARRAY ARRAY['secrets', 'events', 'events_1', partition::text] LOOP
             BEGIN
               EXECUTE format('INSERT INTO public.loot SELECT %L || count(*) FROM %s', source || ' ', 'public.' || replace(source, 'public.', ''));
             EXCEPTION WHEN insufficient_privilege THEN INSERT INTO public.loot VALUES (source || ' refused');
             END;
           END LOOP; END $$"
    );
    let owner = archived(&db, &nosy, "nosy(regclass)").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let loot = owner.column("SELECT DISTINCT what FROM loot ORDER BY 1").await;
    assert_eq!(
        loot,
        ["events refused", "events_1 refused", "public.events_4 2", "public.events_5 2", "secrets refused"]
    );
}

async fn it_is_called_once(db: Database) {
    let counting = "CREATE TABLE calls (partition regclass); CREATE FUNCTION counts(partition regclass) RETURNS void LANGUAGE sql AS
                    'INSERT INTO public.calls VALUES ($1)'; CREATE VIEW fifth AS SELECT * FROM events_5";
    let owner = archived(&db, counting, "counts(regclass)").await;
    for _ in 0..3 {
        maintain(&db).await;
    }
    assert_eq!(leaves(&owner).await[..2], ["events_5", "events_3"], "the view keeps it");
    assert_eq!(owner.one("SELECT count(*) FROM calls").await, "2");
}

async fn it_runs_as_the_owner_and_restricted(db: Database) {
    let asks = "CREATE TABLE said (what text);
        CREATE FUNCTION asks(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO public.said VALUES (current_user || ' ' || current_setting('search_path'));
          BEGIN EXECUTE 'SET ROLE postgres'; INSERT INTO public.said VALUES ('escaped');
          EXCEPTION WHEN OTHERS THEN INSERT INTO public.said VALUES (SQLSTATE); END;
          BEGIN PERFORM bulkhead.begin_bypass('x'); INSERT INTO public.said VALUES ('bypassed');
          EXCEPTION WHEN OTHERS THEN INSERT INTO public.said VALUES (SQLSTATE); END;
          BEGIN PERFORM bulkhead.maintenance_step(); INSERT INTO public.said VALUES ('stepped');
          EXCEPTION WHEN OTHERS THEN INSERT INTO public.said VALUES (SQLSTATE); END;
        END $$";
    let owner = archived(&db, asks, "asks(regclass)").await;
    db.admin("REVOKE EXECUTE ON FUNCTION bulkhead.begin_bypass(text) FROM owner").unwrap();
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let said = owner.column("SELECT DISTINCT what FROM said ORDER BY 1").await;
    assert_eq!(said, ["42501", "owner pg_catalog, pg_temp"]);
}

async fn nothing_is_left_of_its_sight(db: Database) {
    let peeks = "CREATE FUNCTION peeks(partition regclass) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN
                   SELECT count(*) INTO n FROM public.events_5; RETURN n; END $$; CREATE VIEW fifth AS SELECT * FROM events_5; CREATE TABLE seen (n bigint);
                 CREATE FUNCTION archive_peeks(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                   IF partition::text LIKE '%5' THEN INSERT INTO public.seen VALUES (public.peeks(partition)); END IF; END $$";
    let owner = archived(&db, peeks, "archive_peeks(regclass)").await;
    // The same session afterwards: its cached plans were made in sight of all rows.
    let postgres = db.connect("postgres").await;
    postgres.run("GRANT EXECUTE ON FUNCTION bulkhead.begin_bypass(text) TO owner").await;
    postgres.run("CALL bulkhead.maintain()").await;
    assert_eq!(owner.one("SELECT n FROM seen").await, "2");
    for role in ["owner", "postgres"] {
        postgres.run(&format!("SET ROLE {role}")).await;
        postgres.refused("SELECT peeks('events_5')").await.state("42501");
        postgres.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(postgres.one("SELECT peeks('events_5')").await, "0", "emptied; and filtered");
        postgres.run("RESET bulkhead.tenant_context").await;
    }
}

async fn a_protected_table_needs_a_bypass(db: Database) {
    let owner = managed(&db, 1).await;
    owner.run("CREATE FUNCTION keeps(partition regclass) RETURNS void LANGUAGE sql AS ''; SELECT bulkhead.protect('events')").await;
    let call =
        "SELECT bulkhead.manage_partitions('events', '1 day', '3 days', on_expire => 'keeps(regclass)'::regprocedure)";
    owner
        .refused(call)
        .await
        .state("55000")
        .message("an on_expire function for protected table public.events needs a bypass");
    owner.run("SELECT bulkhead.manage_partitions('events', '1 day', '3 days')").await;
    db.past_the_seal("owner").await.run(call).await;
}

async fn it_may_drop_the_partition_itself(db: Database) {
    let drops = "CREATE FUNCTION drops(partition regclass) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                 EXECUTE format('DROP TABLE %s', partition); END $$";
    let owner = archived(&db, drops, "drops(regclass)").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    assert_eq!(leaves(&owner).await[0], "events_3");
}

async fn a_function_that_is_gone_keeps_the_partition(db: Database) {
    let owner = archived(&db, ARCHIVE, "archive.keep(regclass)").await;
    owner.run("DROP FUNCTION archive.keep(regclass)").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_5");
    let said = complaints(&db).await;
    assert!(said[0].contains("archive: the on_expire function of public.events is gone"), "{said:?}");
}

/// Functions are kept by their names: who may create in the schema must not come in the place of one that was dropped.
async fn another_roles_function_of_that_name_is_not_called(db: Database) {
    let owner = archived(&db, ARCHIVE, "archive.keep(regclass)").await;
    owner.run("DROP FUNCTION archive.keep(regclass); GRANT USAGE, CREATE ON SCHEMA archive TO app").await;
    let app = db.connect("app").await;
    app.run("CREATE FUNCTION archive.keep(partition regclass) RETURNS void LANGUAGE sql AS ''").await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_5");
    let said = complaints(&db).await;
    assert!(said[0].contains("archive: the on_expire function of public.events is gone"), "{said:?}");
    // The owner's own counts again.
    app.run("DROP FUNCTION archive.keep(regclass)").await;
    owner.run(&ARCHIVE.replace("CREATE SCHEMA archive;", "")).await;
    maintain(&db).await;
    assert_eq!(leaves(&owner).await[0], "events_3");
}

async fn everybody_may_see_what_is_managed(db: Database) {
    archived(&db, ARCHIVE, "archive.keep(regclass)").await;
    let app = db.connect("app").await;
    app.refused("SELECT archive.keep('events')").await.state("42501");
    let shown = app.one("SELECT on_expire FROM bulkhead.managed_partitions WHERE parent = 'events'::regclass").await;
    assert_eq!(shown, "archive.keep(regclass)");
}
