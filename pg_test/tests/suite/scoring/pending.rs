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

pub async fn insert(client: &Client, documents: &str) {
    client.run(&format!("INSERT INTO leads (document) SELECT d::jsonb FROM ({documents}) AS q (d)")).await;
}

pub fn drain(db: &Database) {
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
