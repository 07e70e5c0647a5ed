//! Rows that cannot be written: each is stepped over or marked, and holds back none of those behind it.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, acting, share};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        what_a_constraint_refuses_is_marked,
        what_a_trigger_refuses_holds_nobody_back,
        what_a_trigger_leaves_unwritten_holds_nobody_back,
        what_may_not_be_scored_may_be_marked,
        an_error_that_is_no_rows_fault_leaves_the_tenant_as_it_is,
        it_is_the_same_when_all_are_scored_again,
        in_partitions_too,
    ]
}

const AS_IT_SAYS: &str = r#"[{"id": "n", "when": true, "score": {"var": "n"}}]"#;

/// A table of 100 rows whose score will be their id. What `n` says of them is SQL about `i`.
async fn leads(db: &Database, n: &str, more: &str) -> Client {
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('n', '{AS_IT_SAYS}')")).unwrap();
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE leads (id integer PRIMARY KEY, document jsonb, score numeric {more}, status text NOT NULL DEFAULT 'pending_score', version integer);
             CREATE INDEX ON leads (id) WHERE status = 'pending_score';
             SELECT bulkhead.attach_scoring('leads', 'n', version_column => 'version');
             INSERT INTO leads (id, document) SELECT i, jsonb_build_object('n', {n}) FROM generate_series(1, 100) i"
        ))
        .await;
    owner
}

async fn trigger(owner: &Client, body: &str) {
    owner
        .run(&format!(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$;
             CREATE TRIGGER keep BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION keep()"
        ))
        .await;
}

const STATES: &str =
    "SELECT status, count(*), min(id), max(id), sum(score), max(version) FROM leads GROUP BY 1 ORDER BY 1";

async fn what_a_constraint_refuses_is_marked(db: Database) {
    let owner = leads(&db, "i", "CHECK (score NOT IN (7, 8, 55))").await;
    db.admin("CALL bulkhead.score_pending('leads', 20)").unwrap();
    assert_eq!(
        owner.rows(STATES).await,
        [["score_failed", "3", "7", "55", "NULL", "1"], ["scored", "97", "1", "100", "4980", "1"]]
    );
    let run =
        db.admin("SELECT scored, failed, ended_at IS NOT NULL, last_error FROM bulkhead.scoring_progress").unwrap();
    assert_eq!(run, "97|3|t|new row for relation \"leads\" violates check constraint \"leads_score_check\"");
}

/// More of them than a batch takes, and before all others.
async fn what_a_trigger_refuses_holds_nobody_back(db: Database) {
    let owner = leads(&db, "i", "").await;
    trigger(&owner, "IF OLD.id <= 30 OR OLD.id = 70 THEN RAISE 'not %', OLD.id USING ERRCODE = 'LEAD1'; END IF;").await;
    db.admin("CALL bulkhead.score_pending('leads', 10)").unwrap();
    assert_eq!(
        owner.rows(STATES).await,
        [["pending_score", "31", "1", "70", "NULL", "NULL"], ["scored", "69", "31", "100", "4515", "1"]]
    );
    assert_eq!(db.admin("SELECT scored, failed, last_error FROM bulkhead.scoring_progress").unwrap(), "69|0|not 70");
    // Nothing is left over from that call.
    owner.run("DROP TRIGGER keep ON leads").await;
    db.admin("CALL bulkhead.score_pending('leads', 10)").unwrap();
    assert_eq!(owner.rows(STATES).await, [["scored", "100", "1", "100", "5050", "1"]]);
}

async fn what_a_trigger_leaves_unwritten_holds_nobody_back(db: Database) {
    let owner = leads(&db, "i", "").await;
    trigger(&owner, "IF OLD.id <= 30 OR OLD.id = 70 THEN RETURN NULL; END IF;").await;
    let boss = db.connect("postgres").await;
    boss.run("CALL bulkhead.score_pending('leads', 10)").await;
    assert_eq!(
        owner.rows(STATES).await,
        [["pending_score", "31", "1", "70", "NULL", "NULL"], ["scored", "69", "31", "100", "4515", "1"]]
    );
    let run = db.admin("SELECT scored, failed, last_error FROM bulkhead.scoring_progress").unwrap();
    assert_eq!(
        run,
        "69|0|1 rows of public.leads were not written: a trigger, a rule or a policy keeps them as they are"
    );
    owner.run("DROP TRIGGER keep ON leads").await;
    boss.run("CALL bulkhead.score_pending('leads', 10)").await;
    assert_eq!(owner.rows(STATES).await, [["scored", "100", "1", "100", "5050", "1"]]);
}

async fn what_may_not_be_scored_may_be_marked(db: Database) {
    let owner = leads(&db, "i", "NOT NULL DEFAULT -1").await;
    trigger(
        &owner,
        "IF NEW.status = 'scored' AND OLD.id < 3 THEN RETURN NULL; END IF;
         IF NEW.status = 'scored' AND OLD.id < 5 THEN RAISE 'none below five'; END IF;",
    )
    .await;
    db.admin("CALL bulkhead.score_pending('leads')").unwrap();
    assert_eq!(
        owner.rows(STATES).await,
        [["score_failed", "4", "1", "4", "-4", "1"], ["scored", "96", "5", "100", "5040", "1"]]
    );
    assert_eq!(
        db.admin("SELECT scored, failed, last_error FROM bulkhead.scoring_progress").unwrap(),
        "96|4|none below five"
    );
}

async fn an_error_that_is_no_rows_fault_leaves_the_tenant_as_it_is(db: Database) {
    share(&db, "lead", 4);
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
             CREATE INDEX ON leads (tenant_id) WHERE status = 'pending_score';
             GRANT SELECT, INSERT ON leads TO app;
             SELECT bulkhead.protect('leads'); SELECT bulkhead.attach_scoring('leads', 'lead');
             CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.tenant_id = '{A}' THEN PERFORM no_such_function(); END IF;
               IF NEW.id = 12 THEN RETURN NULL; END IF;
               RETURN NEW; END $$;
             CREATE TRIGGER keep BEFORE UPDATE ON leads FOR EACH ROW EXECUTE FUNCTION keep()"
        ))
        .await;
    let (a, b) = (acting(&db, A).await, acting(&db, B).await);
    for client in [&a, &b] {
        client.run("INSERT INTO leads (document) SELECT '{}' FROM generate_series(1, 10)").await;
    }
    db.admin("CALL bulkhead.score_pending('leads', 3)").unwrap();
    assert_eq!(a.rows("SELECT DISTINCT score, status FROM leads").await, [["NULL", "pending_score"]]);
    assert_eq!(
        b.rows("SELECT score, status, count(*) FROM leads GROUP BY 1, 2 ORDER BY 3, 2").await,
        [["NULL", "pending_score", "1"], ["4", "scored", "9"]]
    );
    assert_eq!(b.one("SELECT status FROM leads WHERE id = 12").await, "pending_score");
}

async fn it_is_the_same_when_all_are_scored_again(db: Database) {
    let owner = leads(&db, "i", "").await;
    db.admin("CALL bulkhead.score_pending('leads')").unwrap();
    owner.run("ALTER TABLE leads ADD CHECK (score <> 150)").await;
    trigger(&owner, "IF OLD.id = 3 THEN RETURN NULL; END IF;").await;
    let rules = AS_IT_SAYS.replace(r#"{"var": "n"}"#, r#"{"*": [{"var": "n"}, 2]}"#);
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('n', '{rules}')")).unwrap();
    db.admin("CALL bulkhead.rescore('leads')").unwrap();
    assert_eq!(
        owner
            .rows("SELECT status, version, count(*), sum(score), min(id) FROM leads GROUP BY 1, 2 ORDER BY 3, 2")
            .await,
        [["scored", "1", "1", "3", "3"], ["score_failed", "2", "1", "NULL", "75"], ["scored", "2", "98", "9944", "1"]]
    );
}

async fn in_partitions_too(db: Database) {
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('n', '{AS_IT_SAYS}')")).unwrap();
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE leads (id integer, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score', version integer) PARTITION BY RANGE (id);
             CREATE TABLE leads_1 PARTITION OF leads FOR VALUES FROM (1) TO (51);
             CREATE TABLE leads_2 PARTITION OF leads FOR VALUES FROM (51) TO (200);
             ALTER TABLE leads_2 ADD CHECK (score <> 60);
             CREATE INDEX ON leads (id) WHERE status = 'pending_score';
             SELECT bulkhead.attach_scoring('leads', 'n', version_column => 'version');
             INSERT INTO leads (id, document) SELECT i, jsonb_build_object('n', i) FROM generate_series(1, 100) i",
        )
        .await;
    // Rows of both partitions lie in places of the same name.
    trigger(&owner, "IF OLD.id < 20 THEN RETURN NULL; END IF;").await;
    db.admin("CALL bulkhead.score_pending('leads', 15)").unwrap();
    assert_eq!(
        owner.rows(STATES).await,
        [
            ["pending_score", "19", "1", "19", "NULL", "NULL"],
            ["score_failed", "1", "60", "60", "NULL", "1"],
            ["scored", "80", "20", "100", "4800", "1"]
        ]
    );
}
