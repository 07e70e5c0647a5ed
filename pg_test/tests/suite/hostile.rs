//! Every function as a plain role: with whatever arguments, it is an answer or an error of the caller's, in time, and the server lives.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

pub fn tests() -> Vec<Trial> {
    crate::tests![a_panic_is_an_error, every_function_bears_any_argument => 300]
}

/// Texts, with what is a surprise to code that builds SQL, parses JSON or measures lengths.
const TEXTS: [&str; 9] = [
    "NULL",
    "''",
    "'shop-1'",
    "'x''; DROP TABLE mine; --\"%s%n'",
    "E'\\x01\\n'",
    "'\u{e4}\u{1f600}\u{202e}'",
    "repeat('x', 70000)",
    "repeat('[', 20000)",
    "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
];

/// Values of a type, as SQL.
fn values(of_type: &str) -> Vec<&'static str> {
    match of_type {
        "text" => TEXTS.to_vec(),
        "name" => vec!["NULL", "''", "'id'", "'tenant_id'", "'no\"such'", "'ctid'", "repeat('x', 63)::name"],
        "integer" => vec!["NULL", "0", "1", "-1", "2147483647", "-2147483648"],
        "bigint" => vec!["NULL", "0", "1", "-1", "9223372036854775807", "-9223372036854775808"],
        "boolean" => vec!["NULL", "true", "false"],
        "regclass" | "oid" => vec![
            "NULL",
            "0",
            "4294967295::oid",
            "'mine'",
            "'mine_id_seq'",
            "'mine_pkey'",
            "'a_view'",
            "'others'",
            "'stock'",
            "'leads'",
            "'pg_class'",
            "'pg_toast.pg_toast_1255'",
            "'bulkhead.protection'",
            "'bulkhead.order_verdict'",
            "'bulkhead.rule_set'",
        ],
        "regprocedure" => {
            vec!["NULL", "0", "'now()'", "'bulkhead.status()'", "'pg_terminate_backend(integer, bigint)'"]
        }
        "interval" => vec!["NULL", "'0'", "'-1 day'", "'1 us'", "'1 day'", "'178000000 years'", "'1 month -31 days'"],
        "timestamp with time zone" => vec!["NULL", "'infinity'", "'-infinity'", "'294276-12-31'", "now()"],
        "jsonb" => vec![
            "NULL",
            "'null'",
            "'{}'",
            "'[]'",
            "'\"x\"'",
            "'1e131071'",
            "'[{\"id\": \"a\", \"when\": {\"frob\": []}, \"score\": 1}]'",
            "'{\"var\": {\"var\": {\"var\": []}}}'",
            "'{\"reduce\": [[1,2,3], {\"cat\": [{\"var\": \"accumulator\"}, {\"var\": \"accumulator\"}]}, \"x\"]}'",
            "(repeat('[', 500) || repeat(']', 500))::jsonb",
            "to_jsonb(repeat('x', 100000))",
        ],
        "text[]" => vec![
            "NULL",
            "'{}'",
            "'{NULL}'",
            "'{a,b}'",
            "'{{a,b},{c,d}}'",
            "'[5:6]={a,b}'",
            "array_fill('x'::text, ARRAY[3000])",
        ],
        "bigint[]" => vec![
            "NULL",
            "'{}'",
            "'{NULL}'",
            "'{1,2}'",
            "'{{1,2},{3,4}}'",
            "'[-3:-2]={1,2}'",
            "'{9223372036854775807,1}'",
        ],
        _ => vec!["NULL"],
    }
}

/// Numbers without an order, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

async fn world(db: &Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE others (id int PRIMARY KEY, tenant_id text NOT NULL, quantity int);
             REVOKE ALL ON others FROM app, svc;
             CREATE TABLE stock (id text PRIMARY KEY, quantity bigint); INSERT INTO stock VALUES ('a', 5);
             SELECT bulkhead.register_inventory('stock');
             CREATE TABLE leads (tenant_id text NOT NULL, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
             INSERT INTO leads VALUES ('shop-1', '{}'), ('shop-2', '{}');
             SELECT bulkhead.protect('leads'); SELECT bulkhead.attach_scoring('leads', 'lead')",
        )
        .await;
    db.admin(
        "GRANT CREATE ON SCHEMA public TO app, svc; SELECT bulkhead.put_shared_rule_set('lead', '[]');
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bulkhead TO svc; GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA bulkhead TO svc",
    )
    .unwrap();
    let app = db.connect("app").await;
    app.run("CREATE TABLE mine (id serial PRIMARY KEY, tenant_id text, document jsonb, at timestamptz); CREATE VIEW a_view AS SELECT 1 AS id").await;
}

/// What the state of an error says of a fault of ours: an internal error, a lost connection, a broken system.
fn is_ours(state: &str) -> bool {
    matches!(&state[..2], "XX" | "58" | "08" | "57") && state != "57014"
}

async fn try_all(client: &mut Client, role: &str, functions: &[Vec<String>], tries: usize) -> usize {
    let (mut answered, mut dice) = (0, Dice(7));
    for function in functions {
        let (call, types) = (&function[0], &function[1]);
        let types: Vec<&str> = if types.is_empty() { Vec::new() } else { types.split('|').collect() };
        for _ in 0..if types.is_empty() { 1 } else { tries } {
            let arguments: Vec<String> = types
                .iter()
                .map(|of_type| {
                    let values = values(of_type);
                    format!("{}::{of_type}", values[dice.below(values.len())])
                })
                .collect();
            let sql = format!("{call}({})", arguments.join(", "));
            let transaction = client.transaction().await.unwrap();
            transaction
                .batch_execute("SET LOCAL statement_timeout = '20s'; SET LOCAL bulkhead.tenant_context = 'shop-1'")
                .await
                .unwrap();
            match transaction.batch_execute(&sql).await {
                Ok(()) => answered += 1,
                Err(error) => {
                    let state = error.code().map_or("08006", |state| state.code()).to_owned();
                    assert!(!is_ours(&state), "as {role}: {sql:.300}\n{state} {error:?}");
                    assert_ne!(state, "57014", "as {role}, it took longer than 20 s: {sql:.300}");
                }
            }
            transaction.rollback().await.unwrap();
        }
    }
    answered
}

async fn every_function_bears_any_argument(db: Database) {
    world(&db).await;
    let boss = db.connect("postgres").await;
    let functions = boss
        .rows(
            "SELECT CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT * FROM ' END || p.oid::regproc,
                    coalesce((SELECT string_agg(format_type(t, NULL), '|' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n)), '')
               FROM pg_proc p WHERE p.pronamespace = 'bulkhead'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
              ORDER BY 1, 2",
        )
        .await;
    assert!(functions.len() > 60, "{}", functions.len());
    for (role, tries) in [("app", 25), ("owner", 15), ("svc", 25)] {
        let mut client = db.connect(role).await;
        let answered = try_all(&mut client, role, &functions, tries).await;
        assert!(answered > 50, "as {role} only {answered} calls were answered");
    }
    // Nothing is left, whoever asked for what.
    assert_eq!(boss.one("SELECT count(*) FROM pg_class WHERE relname = 'mine'").await, "1");
    assert_eq!(db.admin("SELECT quantity FROM stock").unwrap(), "5");
    assert_eq!(db.admin("SELECT count(*) FROM leads WHERE status = 'pending_score'").unwrap(), "2");
}

/// A superuser declares functions of the library without the arguments that they expect, which is a panic in them.
async fn a_panic_is_an_error(db: Database) {
    let boss = db.connect("postgres").await;
    let pid = boss.one("SELECT pg_backend_pid()").await;
    for (function, argument) in [
        ("detach_scoring_wrapper", "relation_"),
        ("hold_partition_wrapper", "partition_"),
        ("lint_allow_wrapper", "rule_"),
    ] {
        boss.run(&format!(
            "CREATE FUNCTION of_{function}() RETURNS void LANGUAGE c AS '$libdir/bulkhead', '{function}'"
        ))
        .await;
        boss.run("BEGIN; CREATE TABLE gone (id int); SAVEPOINT before").await;
        let refused = boss.refused(&format!("SELECT of_{function}()")).await;
        refused.state("XX000").message(&format!("unboxing {argument} argument failed"));
        // The session, and what it did before, are as after any error.
        boss.run("ROLLBACK TO before").await;
        assert_eq!(boss.one("SELECT count(*) FROM gone").await, "0");
        boss.run("ROLLBACK").await;
    }
    assert_eq!(boss.one("SELECT pg_backend_pid()").await, pid);
}
