//! What the columns of an attached table take, and what else a table may have that a batch has to live with.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, acting, share};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_score_that_does_not_fit_fails_alone,
        a_column_without_nulls_keeps_its_score,
        one_column_is_one_thing,
        all_are_scored_again_where_the_version_is_not_null,
        deferred_triggers_run_in_the_batch,
        messages_are_not_for_everybody,
        a_dropped_table_is_forgotten,
        a_trigger_that_makes_rows_wait_again_ends_the_call,
        health_lives_with_a_domain_that_fails,
    ]
}

const AS_IT_SAYS: &str = r#"[{"id": "n", "when": true, "score": {"var": "n"}}]"#;

fn by_the_document(db: &Database) {
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('n', '{AS_IT_SAYS}')")).unwrap();
}

/// A table that is not protected, with an index that finds what waits.
async fn attached(owner: &Client, name: &str, score: &str, more: &str) {
    owner
        .run(&format!(
            "CREATE TABLE {name} (id integer PRIMARY KEY, document jsonb, score {score}, version integer NOT NULL DEFAULT 0,
               status text NOT NULL DEFAULT 'pending_score');
             CREATE INDEX ON {name} (id) WHERE status = 'pending_score';
             SELECT bulkhead.attach_scoring('{name}', 'n'{more})"
        ))
        .await;
}

async fn a_score_that_does_not_fit_fails_alone(db: Database) {
    by_the_document(&db);
    let owner = db.connect("owner").await;
    for (number, (of_type, fits, does_not)) in [
        ("smallint", [("-32768.4", "-32768"), ("32767.4", "32767")], ["-32768.5", "32767.5"]),
        ("integer", [("-2147483648", "-2147483648"), ("2147483647.4", "2147483647")], ["2147483647.5", "-1e30"]),
        (
            "bigint",
            [("9223372036854775807", "9223372036854775807"), ("-9223372036854775808", "-9223372036854775808")],
            ["9223372036854775808", "1e300"],
        ),
        ("numeric(5,2)", [("999.994", "999.99"), ("-2.555", "-2.56")], ["999.995", "-1000"]),
        ("numeric(2,-3)", [("99499", "99000"), ("-499", "0")], ["99500", "1e30"]),
        ("real", [("1e-400", "0"), ("-3.4028234e38", "-3.4028235e+38")], ["3.5e38", "-1e400"]),
        ("double precision", [("1e-400", "0"), ("1e308", "1e+308")], ["1.8e308", "-1e400"]),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        attached(&owner, &table, of_type, ", version_column => 'version'").await;
        let documents = fits.iter().map(|(given, _)| *given).chain(does_not).enumerate();
        let documents: Vec<_> = documents.map(|(id, n)| format!(r#"({id}, '{{"n": {n}}}')"#)).collect();
        owner.run(&format!("INSERT INTO {table} (id, document) VALUES {}", documents.join(", "))).await;
        db.admin(&format!("CALL bulkhead.score_pending('{table}')")).unwrap();
        assert_eq!(
            owner.rows(&format!("SELECT score, status, version FROM {table} ORDER BY id")).await,
            [
                [fits[0].1, "scored", "1"],
                [fits[1].1, "scored", "1"],
                ["NULL", "score_failed", "1"],
                ["NULL", "score_failed", "1"]
            ],
            "{of_type}"
        );
        assert_eq!(
            db.admin(&format!(
                "SELECT scored, failed, last_error FROM bulkhead.scoring_run WHERE relation = '{table}'::regclass"
            ))
            .unwrap(),
            "2|2|",
            "{of_type}"
        );
    }
}

async fn a_column_without_nulls_keeps_its_score(db: Database) {
    by_the_document(&db);
    let owner = db.connect("owner").await;
    attached(&owner, "t", "integer NOT NULL DEFAULT 7", "").await;
    owner.run(r#"INSERT INTO t (id, document) VALUES (1, '{"n": 1e30}'), (2, '{"n": 3}')"#).await;
    db.admin("CALL bulkhead.score_pending('t')").unwrap();
    assert_eq!(owner.rows("SELECT score, status FROM t ORDER BY id").await, [["7", "score_failed"], ["3", "scored"]]);
}

async fn one_column_is_one_thing(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE t (tenant_id text NOT NULL, document jsonb, score integer, many numeric(5,2)[], status text);
             SELECT bulkhead.protect('t')",
        )
        .await;
    for (columns, message) in [
        ("version_column => 'score'", "column score of public.t is named for two things"),
        ("status_column => 'tenant_id'", "column tenant_id of public.t is named for two things"),
        ("score_column => 'many'", "column many is of type numeric(5,2)[], and a score is a number"),
    ] {
        owner
            .refused(&format!("SELECT bulkhead.attach_scoring('t', 'n', {columns})"))
            .await
            .state("22023")
            .message(message);
    }
}

async fn all_are_scored_again_where_the_version_is_not_null(db: Database) {
    by_the_document(&db);
    let owner = db.connect("owner").await;
    attached(&owner, "t", "numeric", ", version_column => 'version'").await;
    owner.run(r#"INSERT INTO t (id, document) VALUES (1, '{"n": 1}'), (2, '{"n": 2}')"#).await;
    db.admin("CALL bulkhead.score_pending('t')").unwrap();
    owner.run("UPDATE t SET score = -1").await;
    db.admin("CALL bulkhead.rescore('t', false)").unwrap();
    assert_eq!(owner.rows("SELECT score, version FROM t ORDER BY id").await, [["1", "1"], ["2", "1"]]);
}

async fn deferred_triggers_run_in_the_batch(db: Database) {
    share(&db, "n", 4);
    let owner = db.connect("owner").await;
    attached(&owner, "plain", "numeric", "").await;
    owner
        .run(
            "CREATE TABLE leads (tenant_id text NOT NULL, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
             CREATE INDEX ON leads (tenant_id) WHERE status = 'pending_score';
             GRANT SELECT, INSERT ON leads TO app;
             SELECT bulkhead.protect('leads'); SELECT bulkhead.attach_scoring('leads', 'n');
             CREATE TABLE seen (place text, who text, tenant text);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO public.seen VALUES (TG_RELID::regclass, current_user, bulkhead.tenant_id_text()); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON leads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
             CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON plain DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
             INSERT INTO plain (id, document) VALUES (1, '{}')",
        )
        .await;
    let a = acting(&db, A).await;
    a.run("INSERT INTO leads (document) VALUES ('{}')").await;
    db.admin("CALL bulkhead.score_pending('leads'); CALL bulkhead.score_pending('plain')").unwrap();
    assert_eq!(a.rows("SELECT score, status FROM leads").await, [["4", "scored"]]);
    assert_eq!(owner.rows("SELECT score, status FROM plain").await, [["4", "scored"]]);
    assert_eq!(
        owner.rows("SELECT * FROM seen").await,
        [["public.leads", "owner", A], ["public.plain", "owner", "NULL"]],
        "as the owner, whoever drains"
    );
}

async fn messages_are_not_for_everybody(db: Database) {
    by_the_document(&db);
    let owner = db.connect("owner").await;
    attached(&owner, "t", "numeric CHECK (score < 10)", "").await;
    owner.run(r#"GRANT SELECT ON t TO app; INSERT INTO t (id, document) VALUES (1, '{"n": 11}')"#).await;
    db.admin("CALL bulkhead.score_pending('t')").unwrap();
    let message = "SELECT last_error FROM bulkhead.scoring_progress";
    let app = db.connect("app").await;
    assert_eq!(app.one(message).await, "NULL");
    assert!(owner.one(message).await.contains("violates check constraint"));
    db.admin("GRANT EXECUTE ON PROCEDURE bulkhead.score_pending TO app").unwrap();
    assert!(app.one(message).await.contains("violates check constraint"));
}

async fn a_dropped_table_is_forgotten(db: Database) {
    share(&db, "n", 4);
    let owner = db.connect("owner").await;
    attached(&owner, "t", "numeric", "").await;
    db.admin("CALL bulkhead.score_pending('t')").unwrap();
    owner.run("DROP TABLE t").await;
    let left = "SELECT (SELECT count(*) FROM bulkhead.scoring) + (SELECT count(*) FROM bulkhead.scoring_run)";
    assert_eq!(db.admin(left).unwrap(), "0");
}

async fn a_trigger_that_makes_rows_wait_again_ends_the_call(db: Database) {
    share(&db, "n", 4);
    let owner = db.connect("owner").await;
    attached(&owner, "t", "numeric", ", version_column => 'version'").await;
    owner
        .run(
            "INSERT INTO t SELECT i, '{}', NULL, 7, CASE WHEN i < 3 THEN 'pending_score' ELSE 'scored' END FROM generate_series(1, 4) i;
             CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.id % 2 = 0 THEN NEW.status := OLD.status; NEW.version := 7; END IF; RETURN NEW; END $$;
             CREATE TRIGGER again BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again()",
        )
        .await;
    let boss = db.connect("postgres").await;
    boss.run("SET statement_timeout = '60s'").await;
    boss.run("CALL bulkhead.score_pending('t')").await;
    boss.run("CALL bulkhead.rescore('t')").await;
    assert_eq!(
        owner.rows("SELECT id, status, version FROM t ORDER BY id").await,
        [["1", "scored", "1"], ["2", "pending_score", "7"], ["3", "scored", "1"], ["4", "scored", "7"]]
    );
    assert_eq!(boss.column("SELECT scored FROM bulkhead.scoring_progress ORDER BY action").await, ["1", "1"]);
}

async fn health_lives_with_a_domain_that_fails(db: Database) {
    share(&db, "n", 4);
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE DOMAIN word AS text;
             CREATE TABLE t (document jsonb, score numeric, status word);
             INSERT INTO t VALUES ('{}', NULL, 'new');
             SELECT bulkhead.attach_scoring('t', 'n');
             ALTER DOMAIN word ADD CHECK (VALUE <> 'pending_score') NOT VALID",
        )
        .await;
    let check = db.admin("SELECT ok, detail FROM bulkhead.health() WHERE check_name = 'scoring_lag'").unwrap();
    assert!(check.starts_with("f|public.t: value for domain public.word violates check constraint"), "{check}");
}
