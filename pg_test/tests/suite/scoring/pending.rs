//! score_pending() and rescore(): every row once, the tenants in turn, whatever breaks.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, acting, put, share};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        pending_rows_are_scored,
        each_tenant_by_its_own_rules,
        tenants_have_their_turn,
        a_document_that_breaks_a_rule_is_marked,
        several_workers_score_each_row_once => 240,
        a_killed_worker_loses_nothing,
        a_row_that_is_edited_is_scored_later,
        only_what_is_stale_is_scored_again,
        the_whole_row_may_be_the_document,
        a_failing_trigger_stops_no_other_tenant,
        it_acts_as_the_owner_and_leaves_nothing_behind,
        what_cannot_be_attached_is_refused,
        who_may_call_it,
        it_works_without_the_seal_and_for_plain_tables,
        partitions_and_signed_mode,
        health_says_that_rows_wait,
    ]
}

/// A protected table of leads; the owner's.
pub async fn leads(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, document jsonb,
               score numeric, status text NOT NULL DEFAULT 'pending_score', rules_version integer);
             CREATE INDEX leads_pending ON leads (tenant_id) WHERE status = 'pending_score';
             CREATE INDEX ON leads (tenant_id);
             GRANT SELECT, INSERT, UPDATE ON leads TO app;
             SELECT bulkhead.protect('leads');
             SELECT bulkhead.attach_scoring('leads', 'lead', version_column => 'rules_version')",
        )
        .await;
    owner
}

const BUDGET: &str =
    r#"[{"id": "budget", "when": {">": [{"var": "budget"}, 10]}, "score": {"+": [{"var": "budget"}, 1]}}]"#;

async fn insert(client: &Client, documents: &str) {
    client.run(&format!("INSERT INTO leads (document) SELECT d::jsonb FROM ({documents}) AS q (d)")).await;
}

fn drain(db: &Database) {
    db.admin("CALL bulkhead.score_pending('leads')").unwrap();
}

async fn pending_rows_are_scored(db: Database) {
    let _owner = leads(&db).await;
    let a = acting(&db, A).await;
    a.run(&format!("SELECT bulkhead.put_rule_set('lead', '{BUDGET}')")).await;
    insert(&a, r#"VALUES ('{"budget": 20}'), ('{"budget": 5}'), ('{}'), (NULL), ('[]'), ('{"budget": 0.5e2}')"#).await;
    drain(&db);
    assert_eq!(
        a.rows("SELECT score, status, rules_version FROM leads ORDER BY id").await,
        [
            ["21", "scored", "1"],
            ["0", "scored", "1"],
            ["0", "scored", "1"],
            ["0", "scored", "1"],
            ["0", "scored", "1"],
            ["51", "scored", "1"]
        ]
    );
    assert_eq!(
        db.admin("SELECT action, scored, failed, batches > 0, ended_at IS NOT NULL, last_error FROM bulkhead.scoring_progress").unwrap(),
        "score_pending|6|0|t|t|"
    );
    assert_eq!(a.one("SELECT count(*) FROM bulkhead.scoring_progress").await, "1");
}

async fn each_tenant_by_its_own_rules(db: Database) {
    let _owner = leads(&db).await;
    share(&db, "lead", 1);
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    put(&a, "lead", 7).await;
    for client in [&a, &b] {
        insert(client, "SELECT '{}' FROM generate_series(1, 100)").await;
    }
    drain(&db);
    let all = "SELECT DISTINCT score, status FROM leads";
    assert_eq!(a.rows(all).await, [["7", "scored"]]);
    assert_eq!(b.rows(all).await, [["1", "scored"]]);
}

async fn tenants_have_their_turn(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 1);
    owner.run("BEGIN; SET LOCAL bulkhead.tenant_context = 'a-flood'; INSERT INTO leads (tenant_id, document) SELECT 'a-flood', '{}' FROM generate_series(1, 5000); COMMIT").await;
    for tenant in ["b", "c", "d"] {
        owner.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'; INSERT INTO leads (tenant_id, document) SELECT '{tenant}', '{{}}' FROM generate_series(1, 10); COMMIT")).await;
    }
    db.admin("CALL bulkhead.score_pending('leads', 100, 4)").unwrap();
    let waiting = async |tenant: &str| {
        let client = db.connect("app").await;
        client.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
        client.one("SELECT count(*) FROM leads WHERE status = 'pending_score'").await
    };
    assert_eq!(waiting("a-flood").await, "4900", "one batch of the flood, and then the others");
    for tenant in ["b", "c", "d"] {
        assert_eq!(waiting(tenant).await, "0", "{tenant}");
    }
    drain(&db);
    assert_eq!(waiting("a-flood").await, "0");
}

async fn a_document_that_breaks_a_rule_is_marked(db: Database) {
    let _owner = leads(&db).await;
    let a = acting(&db, A).await;
    let rules = r#"[{"id": "ok", "when": true, "score": 5},
        {"id": "sum", "when": true, "score": {"+": [{"var": "n"}, 1]}},
        {"id": "bomb", "when": {"reduce": [{"var": "list"}, {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "xx"]}, "score": 0}]"#;
    a.run(&format!("SELECT bulkhead.put_rule_set('lead', '{rules}')")).await;
    insert(&a, r#"VALUES ('{"n": 1}'), ('{"n": "no number"}'), (jsonb_build_object('n', 1, 'list', (SELECT jsonb_agg(i) FROM generate_series(1, 60) i))::text), ('{"n": 2}')"#).await;
    drain(&db);
    assert_eq!(
        a.rows("SELECT score, status, rules_version FROM leads ORDER BY id").await,
        [["7", "scored", "1"], ["5", "score_failed", "1"], ["NULL", "score_failed", "1"], ["8", "scored", "1"]]
    );
    assert_eq!(db.admin("SELECT scored, failed FROM bulkhead.scoring_run").unwrap(), "2|2");
}

async fn several_workers_score_each_row_once(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 1);
    owner
        .run(
            "CREATE TABLE written (id bigint); 
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.written VALUES (NEW.id); RETURN NEW; END $$;
             CREATE TRIGGER note AFTER UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .await;
    for tenant in ["a", "b", "c"] {
        owner.run(&format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'; INSERT INTO leads (tenant_id, document) SELECT '{tenant}', '{{}}' FROM generate_series(1, 2000); COMMIT")).await;
    }
    let workers = (0..4).map(|_| {
        let db = db.clone();
        tokio::task::spawn_blocking(move || db.admin("CALL bulkhead.score_pending('leads', 70)").unwrap())
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    drain(&db);
    assert_eq!(owner.one("SELECT count(*) || ' ' || count(DISTINCT id) FROM written").await, "6000 6000");
}

async fn a_killed_worker_loses_nothing(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 1);
    let a = acting(&db, A).await;
    insert(&a, "SELECT '{}' FROM generate_series(1, 3000)").await;
    owner.run("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(0.001); RETURN NEW; END $$;
               CREATE TRIGGER slow BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION slow()").await;
    let killed = {
        let db = db.clone();
        tokio::task::spawn_blocking(move || db.admin("CALL bulkhead.score_pending('leads', 100)"))
    };
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    db.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL bulkhead.score_pending%' AND pid <> pg_backend_pid() AND datname = current_database()").unwrap();
    assert!(killed.await.unwrap().is_err());
    let scored: i64 = a.one("SELECT count(*) FROM leads WHERE status = 'scored' AND score = 1").await.parse().unwrap();
    let pending: i64 =
        a.one("SELECT count(*) FROM leads WHERE status = 'pending_score' AND score IS NULL").await.parse().unwrap();
    assert_eq!(scored + pending, 3000);
    assert!(scored % 100 == 0 && pending > 0, "{scored} {pending}");
    owner.run("DROP TRIGGER slow ON leads").await;
    drain(&db);
    assert_eq!(a.one("SELECT count(*) FROM leads WHERE status = 'scored'").await, "3000");
}

async fn a_row_that_is_edited_is_scored_later(db: Database) {
    let _owner = leads(&db).await;
    let a = acting(&db, A).await;
    a.run(&format!("SELECT bulkhead.put_rule_set('lead', '{BUDGET}')")).await;
    insert(&a, r#"VALUES ('{"budget": 20}'), ('{"budget": 30}')"#).await;
    a.run(r#"BEGIN; UPDATE leads SET document = '{"budget": 100}' WHERE (document ->> 'budget') = '20'"#).await;
    drain(&db);
    let other = acting(&db, A).await;
    assert_eq!(other.column("SELECT status FROM leads ORDER BY id").await, ["pending_score", "scored"]);
    a.run("COMMIT").await;
    drain(&db);
    assert_eq!(a.column("SELECT score FROM leads ORDER BY id").await, ["101", "31"]);
}

async fn only_what_is_stale_is_scored_again(db: Database) {
    let _owner = leads(&db).await;
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    put(&a, "lead", 1).await;
    put(&b, "lead", 1).await;
    for client in [&a, &b] {
        insert(client, "SELECT '{}' FROM generate_series(1, 1500)").await;
    }
    drain(&db);
    put(&a, "lead", 2).await;
    insert(&a, "VALUES ('{}')").await;
    let before = b.one("SELECT max(xmin::text::bigint) FROM leads").await;
    db.admin("CALL bulkhead.rescore('leads')").unwrap();
    assert_eq!(
        a.rows("SELECT score, status, rules_version, count(*) FROM leads GROUP BY 1, 2, 3 ORDER BY 4").await,
        [["NULL", "pending_score", "NULL", "1"], ["2", "scored", "2", "1500"]]
    );
    assert_eq!(
        b.one("SELECT max(xmin::text::bigint) FROM leads").await,
        before,
        "the other tenant's rows were not touched"
    );
    assert_eq!(
        db.admin("SELECT scored FROM bulkhead.scoring_progress WHERE action = 'rescore' AND ended_at IS NOT NULL")
            .unwrap(),
        "1500"
    );
    // All of them, whatever the version.
    db.admin("CALL bulkhead.rescore('leads', false)").unwrap();
    assert_ne!(b.one("SELECT min(xmin::text::bigint) FROM leads").await, before);
    assert_eq!(b.rows("SELECT DISTINCT score, rules_version FROM leads").await, [["1", "1"]]);
    let owner = db.connect("owner").await;
    owner.run("SELECT bulkhead.attach_scoring('leads', 'lead')").await;
    let refused = db.connect("postgres").await;
    refused.refused("CALL bulkhead.rescore('leads')").await.state("55000").hint_contains("version_column");
}

async fn the_whole_row_may_be_the_document(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE orders (id integer, total numeric, country text, points numeric, state varchar(20) DEFAULT 'pending_score')").await;
    owner.run("SELECT bulkhead.attach_scoring('orders', 'orders', document_column => NULL, score_column => 'points', status_column => 'state')").await;
    assert!(
        owner.notices()[0].contains("CREATE INDEX CONCURRENTLY ON public.orders (state) WHERE state = 'pending_score'")
    );
    let rules =
        r#"[{"id": "de", "when": {"==": [{"var": "country"}, "DE"]}, "score": {"*": [{"var": "total"}, 0.1]}}]"#;
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('orders', '{rules}')")).unwrap();
    owner.run("INSERT INTO orders VALUES (1, 12.50, 'DE'), (2, 100, 'FR')").await;
    db.admin("CALL bulkhead.score_pending('orders')").unwrap();
    assert_eq!(
        owner.rows("SELECT points, state FROM orders ORDER BY id").await,
        [["1.250", "scored"], ["0", "scored"]]
    );
}

async fn a_failing_trigger_stops_no_other_tenant(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 1);
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    for client in [&a, &b] {
        insert(client, "SELECT '{}' FROM generate_series(1, 10)").await;
    }
    owner.run(&format!("CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.tenant_id = '{A}' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
               CREATE TRIGGER picky BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION picky()")).await;
    drain(&db);
    assert_eq!(a.one("SELECT count(*) FROM leads WHERE status = 'pending_score'").await, "10");
    assert_eq!(b.one("SELECT count(*) FROM leads WHERE status = 'scored'").await, "10");
    assert_eq!(db.admin("SELECT last_error FROM bulkhead.scoring_progress").unwrap(), "not this one");
    owner.run("DROP TRIGGER picky ON leads").await;
    drain(&db);
    assert_eq!(a.one("SELECT count(*) FROM leads WHERE status = 'scored'").await, "10");
}

async fn it_acts_as_the_owner_and_leaves_nothing_behind(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 1);
    let a = acting(&db, A).await;
    insert(&a, "VALUES ('{}')").await;
    // The attempt of an owner to use the rights of a superuser who drains.
    owner
        .run(
            "CREATE TABLE seen (who text, tenant text, path text);
             CREATE FUNCTION grab() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen VALUES (current_user, bulkhead.tenant_id_text(), current_setting('search_path'));
               BEGIN SET LOCAL ROLE postgres; INSERT INTO public.seen VALUES ('role', NULL, NULL); EXCEPTION WHEN OTHERS THEN NULL; END;
               BEGIN PERFORM set_config('bulkhead.tenant_context', 'shop-2', false); INSERT INTO public.seen VALUES ('tenant', NULL, NULL); EXCEPTION WHEN OTHERS THEN NULL; END;
               PERFORM set_config('search_path', 'public', false);
               PERFORM set_config('work_mem', '77MB', false);
               RETURN NEW; END $$;
             CREATE TRIGGER grab BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION grab()",
        )
        .await;
    let boss = db.connect("postgres").await;
    boss.run("CALL bulkhead.score_pending('leads')").await;
    assert_eq!(owner.rows("SELECT * FROM seen").await, [["owner", A, "pg_catalog, pg_temp"]]);
    assert_eq!(
        boss.rows("SELECT current_user, session_user, bulkhead.tenant_id_text(), current_setting('search_path'), current_setting('work_mem') <> '77MB', current_setting('bulkhead.context_mode')").await,
        [["postgres", "postgres", "NULL", "\"$user\", public", "t", "locked"]]
    );
    boss.refused("SELECT count(*) FROM leads").await.state("42501");
}

async fn what_cannot_be_attached_is_refused(db: Database) {
    let owner = leads(&db).await;
    let (app, boss) = (db.connect("app").await, db.connect("postgres").await);
    app.refused("SELECT bulkhead.attach_scoring('leads', 'x')").await.state("42501").message_contains("must be owner");
    app.refused("SELECT bulkhead.detach_scoring('leads')").await.state("42501");
    for (columns, state, message) in [
        ("document_column => 'no'", "55000", "has no column \"no\""),
        ("document_column => 'status'", "22023", "a document is jsonb"),
        ("score_column => 'status'", "22023", "a score is a number"),
        ("status_column => 'score'", "22023", "is named for two things"),
        ("score_column => 'id'", "22023", "generated"),
        ("version_column => 'status'", "22023", "an integer"),
    ] {
        let refused = owner.refused(&format!("SELECT bulkhead.attach_scoring('leads', 'x', {columns})")).await;
        refused.state(state).message_contains(message);
    }
    owner.refused("SELECT bulkhead.attach_scoring(NULL, 'x')").await.state("22023");
    owner.run("CREATE VIEW v AS SELECT 1 AS score, '{}'::jsonb AS document, ''::text AS status; CREATE TYPE half AS ENUM ('scored');
               CREATE TABLE other (document jsonb, score numeric, status half)").await;
    owner
        .refused("SELECT bulkhead.attach_scoring('v', 'x')")
        .await
        .state("22023")
        .message_contains("no ordinary table");
    owner.refused("SELECT bulkhead.attach_scoring('other', 'x')").await.state("22P02");
    owner.refused("SELECT bulkhead.detach_scoring('other')").await.state("55000").message_contains("not attached");
    boss.refused("CALL bulkhead.score_pending('other')").await.state("55000").message_contains("not attached");
    owner.run("ALTER TABLE leads RENAME COLUMN document TO doc").await;
    boss.refused("CALL bulkhead.score_pending('leads')")
        .await
        .state("55000")
        .message_contains("has no column \"document\"");
}

async fn who_may_call_it(db: Database) {
    let _owner = leads(&db).await;
    share(&db, "lead", 1);
    let a = acting(&db, A).await;
    insert(&a, "VALUES ('{}')").await;
    for call in ["CALL bulkhead.score_pending('leads')", "CALL bulkhead.rescore('leads')"] {
        a.refused(call).await.state("42501");
    }
    a.refused("SELECT bulkhead.scoring_step('leads', 'score_pending', now(), NULL, 10)")
        .await
        .state("42501")
        .message_contains("permission denied for procedure bulkhead.score_pending");
    db.admin("GRANT EXECUTE ON PROCEDURE bulkhead.score_pending TO app").unwrap();
    a.refused("CALL bulkhead.score_pending('leads', -1)").await.state("22023").message_contains("batch_size");
    a.refused("BEGIN; CALL bulkhead.score_pending('leads')").await.state("2D000");
    a.run("ROLLBACK").await;
    // With a tenant in force it scores that one alone.
    let b = acting(&db, B).await;
    insert(&b, "VALUES ('{}')").await;
    a.run("CALL bulkhead.score_pending('leads')").await;
    assert_eq!(a.one("SELECT status FROM leads").await, "scored");
    assert_eq!(b.one("SELECT status FROM leads").await, "pending_score");
    assert_eq!(a.one("SELECT bulkhead.tenant_id_text()").await, A);
}

async fn it_works_without_the_seal_and_for_plain_tables(db: crate::harness::WithoutPreload) {
    let owner = leads(&db).await;
    share(&db, "lead", 3);
    let a = acting(&db, A).await;
    insert(&a, "VALUES ('{}')").await;
    drain(&db);
    assert_eq!(a.rows("SELECT score, status FROM leads").await, [["3", "scored"]]);
    drop(owner);
}

async fn partitions_and_signed_mode(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE leads (id bigint, tenant_id uuid NOT NULL, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score') PARTITION BY RANGE (id);
             CREATE TABLE leads_1 PARTITION OF leads FOR VALUES FROM (1) TO (100);
             CREATE TABLE leads_2 PARTITION OF leads FOR VALUES FROM (100) TO (200);
             CREATE INDEX ON leads (tenant_id) WHERE status = 'pending_score';
             GRANT SELECT, INSERT ON leads TO app;
             SELECT bulkhead.protect('leads'); SELECT bulkhead.attach_scoring('leads', 'lead')",
        )
        .await;
    share(&db, "lead", 3);
    let a = acting(&db, A).await;
    a.run("INSERT INTO leads (id, document) SELECT i, '{}' FROM generate_series(1, 199) i").await;
    let boss = db.connect("postgres").await;
    boss.run("SET bulkhead.context_mode = signed").await;
    boss.run("CALL bulkhead.score_pending('leads', 50)").await;
    assert_eq!(boss.one("SHOW bulkhead.context_mode").await, "signed");
    assert_eq!(a.rows("SELECT score, status, count(*) FROM leads GROUP BY 1, 2").await, [["3", "scored", "199"]]);
}

async fn health_says_that_rows_wait(db: Database) {
    let owner = leads(&db).await;
    share(&db, "lead", 3);
    let check =
        || db.admin("SELECT ok, value, detail FROM bulkhead.health() WHERE check_name = 'scoring_lag'").unwrap();
    assert_eq!(check(), "t|0 rows|");
    for tenant in [A, B] {
        insert(&acting(&db, tenant).await, "VALUES ('{}'), ('{}')").await;
    }
    assert!(
        check().starts_with("f|4 rows|4 rows of public.leads wait, and no batch was done for a week"),
        "{}",
        check()
    );
    db.admin("CALL bulkhead.score_pending('leads', 1, 2)").unwrap();
    assert_eq!(check(), "t|2 rows|");
    db.admin("UPDATE bulkhead.scoring_run SET last_at = now() - interval '11 minutes'").unwrap();
    assert!(
        check().starts_with("f|2 rows|2 rows of public.leads wait, and no batch was done for 11 min"),
        "{}",
        check()
    );
    db.admin("CALL bulkhead.score_pending('leads')").unwrap();
    assert_eq!(check(), "t|0 rows|");
    owner.run("ALTER TABLE leads RENAME status TO state").await;
    assert_eq!(check(), "f|0 rows|public.leads has no column \"status\"");
}
