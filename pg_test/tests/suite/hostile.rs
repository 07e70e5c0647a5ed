//! Every function as a plain role: with whatever arguments, it is an answer or an error of the caller's, in time, and the server lives.

mod changed;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::bench::memory;
use pg_test::{Client, Database};
use tokio_postgres::SimpleQueryMessage;

use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    let mut all = crate::tests![
        a_panic_is_an_error,
        every_function_bears_any_argument => 300,
        what_a_call_leaves_gains_nothing => 300,
        no_function_keeps_memory => 300
    ];
    all.extend(changed::tests());
    all
}

/// What stands in the rows of another tenant only.
const CANARY: &str = "kanarienvogel";

/// A table's name, and its column's, as somebody chooses them who hopes that SQL is built from them.
const HOSTILE: &str = r#"'"x''; DROP TABLE mine; --"'"#;

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
            HOSTILE,
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
        "uuid" => vec!["NULL", "'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
        other => panic!("no values of {other} are known here, which a function takes"),
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
             INSERT INTO leads VALUES ('shop-1', '{}'), ('shop-2', '{\"who\": \"kanarienvogel\"}');
             GRANT SELECT, INSERT, UPDATE ON leads, stock TO app, svc;
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
    app.run(
        r#"CREATE TABLE "x'; DROP TABLE mine; --" ("tenant_id" text NOT NULL, "y""; DROP TABLE mine; --" bigint PRIMARY KEY);
           SELECT bulkhead.protect('"x''; DROP TABLE mine; --"')"#,
    )
    .await;
    // Another tenant's keys, orders and rules.
    owner
        .run(&format!(
            "SET bulkhead.tenant_context = 'shop-2'; SELECT bulkhead.idempotency_claim('{CANARY}', '{CANARY}');
             SELECT bulkhead.decrement_inventory('stock', ARRAY['{CANARY}'], ARRAY['a'], ARRAY[1]::bigint[])"
        ))
        .await;
    db.admin(&format!(
        "BEGIN; SET LOCAL bulkhead.tenant_context = 'shop-2';
         SELECT bulkhead.put_rule_set('{CANARY}', '[{{\"id\": \"{CANARY}\", \"when\": true, \"score\": 1}}]'); COMMIT"
    ))
    .unwrap();
}

/// All that can be called, with the types of its arguments.
async fn functions(boss: &Client) -> Vec<Vec<String>> {
    let functions = boss
        .rows(
            "SELECT CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT * FROM ' END || p.oid::regproc,
                    coalesce((SELECT string_agg(format_type(t, NULL), '|' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n)), '')
               FROM pg_proc p WHERE p.pronamespace = 'bulkhead'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
              ORDER BY 1, 2",
        )
        .await;
    assert!(functions.len() > 60, "{}", functions.len());
    functions
}

/// A call of the function with arguments that the dice choose.
fn call(function: &[String], dice: &mut Dice) -> String {
    let types: Vec<&str> = function[1].split('|').filter(|of_type| !of_type.is_empty()).collect();
    let arguments: Vec<String> = types
        .iter()
        .map(|of_type| {
            let values = values(of_type);
            format!("{}::{of_type}", values[dice.below(values.len())])
        })
        .collect();
    format!("{}({})", function[0], arguments.join(", "))
}

/// Whether it was answered; that the answer is nobody else's, and the error none of ours.
fn judge(role: &str, sql: &str, result: Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>) -> bool {
    match result {
        Ok(messages) => {
            for message in &messages {
                let SimpleQueryMessage::Row(row) = message else { continue };
                for at in 0..row.len() {
                    let text = row.get(at).unwrap_or_default();
                    assert!(!text.contains(CANARY), "as {role}: {sql:.300}\nanswers with another tenant's {text:.300}");
                }
            }
            true
        }
        Err(error) => {
            let state = error.code().map_or("08006", |state| state.code()).to_owned();
            assert!(!is_ours(&state), "as {role}: {sql:.300}\n{state} {error:?}");
            assert_ne!(state, "57014", "as {role}, it took longer than 20 s: {sql:.300}");
            assert!(!format!("{error:?}").contains(CANARY), "as {role}: {sql:.300}\n{error:?}");
            false
        }
    }
}

/// What the state of an error says of a fault of ours: an internal error, a lost connection, a broken system.
fn is_ours(state: &str) -> bool {
    matches!(&state[..2], "XX" | "58" | "08" | "57") && state != "57014"
}

const BEFORE: &str = "SET LOCAL statement_timeout = '20s'; SET LOCAL bulkhead.tenant_context = 'shop-1'";

/// How many calls were answered. Each is rolled back. What dice never get an answer to is in changed.rs.
async fn try_all(client: &mut Client, role: &str, functions: &[Vec<String>], tries: usize) -> usize {
    let (mut answered, mut dice) = (0, Dice(7));
    for function in functions {
        for _ in 0..if function[1].is_empty() { 1 } else { tries } {
            let sql = call(function, &mut dice);
            let transaction = client.transaction().await.unwrap();
            transaction.batch_execute(BEFORE).await.unwrap();
            let result = transaction.simple_query(&sql).await;
            answered += usize::from(judge(role, &sql, result));
            transaction.rollback().await.unwrap();
        }
    }
    answered
}

async fn every_function_bears_any_argument(db: Database) {
    world(&db).await;
    let boss = db.connect("postgres").await;
    let functions = functions(&boss).await;
    let mut answered = 0;
    for (role, tries) in [("app", 25), ("owner", 15), ("svc", 25)] {
        let mut client = db.connect(role).await;
        answered += try_all(&mut client, role, &functions, tries).await;
    }
    assert!(answered > 300, "{answered} answered");
    // Nothing is left, whoever asked for what.
    assert_eq!(boss.one("SELECT count(*) FROM pg_class WHERE relname = 'mine'").await, "1");
    assert_eq!(db.admin("SELECT quantity FROM stock").unwrap(), "4");
    assert_eq!(db.admin("SELECT count(*) FROM leads WHERE status = 'pending_score'").unwrap(), "2");
}

/// Who may do what, and what another tenant has: what no call of a plain role's may change.
///
/// Other tests make roles and databases on the same server meanwhile, and give rights to statistics.
const PRIVILEGES: &str = "SELECT 'role ' || concat_ws(' ', rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls) FROM pg_roles WHERE rolname IN ('app', 'svc', 'owner', 'postgres')
    UNION ALL SELECT 'member ' || concat_ws(' ', roleid::regrole, member::regrole) FROM pg_auth_members
               WHERE roleid::regrole::text IN ('app', 'svc', 'owner', 'postgres', 'pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program')
    UNION ALL SELECT 'setting ' || s::text FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()
    UNION ALL SELECT 'database ' || concat_ws(' ', datdba, datacl) FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'schema ' || concat_ws(' ', nspname, nspowner, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT 'function ' || concat_ws(' ', oid::regprocedure, proowner, proacl, prosecdef, proconfig) FROM pg_proc WHERE pronamespace = 'bulkhead'::regnamespace
    UNION ALL SELECT 'table ' || concat_ws(' ', oid::regclass, relowner, relacl) FROM pg_class
               WHERE relnamespace IN ('bulkhead'::regnamespace, 'public'::regnamespace) AND relkind IN ('r', 'p', 'v', 'S') AND NOT relispartition
    UNION ALL SELECT 'trigger ' || concat_ws(' ', evtname, evtowner, evtfoid, evtenabled) FROM pg_event_trigger
    UNION ALL SELECT 'protected ' || concat_ws(' ', relation, tenant_column) FROM bulkhead.protected_tables WHERE relation = 'leads'::regclass
    UNION ALL SELECT 'lead ' || document::text FROM leads WHERE tenant_id = 'shop-2'
    UNION ALL SELECT 'key ' || concat_ws(' ', key, fingerprint) FROM bulkhead.idempotency_key WHERE tenant = 'shop-2'
    UNION ALL SELECT 'order ' || concat_ws(' ', order_id, item, quantity, verdict) FROM bulkhead.order_verdict WHERE tenant = 'shop-2'
    UNION ALL SELECT 'rule ' || concat_ws(' ', name, rules) FROM bulkhead.rule_set WHERE tenant = 'shop-2'
    ORDER BY 1";

/// Every call is a transaction of its own, and the procedures may commit in it; a worker decides what is ordered.
async fn what_a_call_leaves_gains_nothing(WithWorkers(db): WithWorkers) {
    world(&db).await;
    let boss = db.connect("postgres").await;
    let functions = functions(&boss).await;
    let before = db.admin(PRIVILEGES).unwrap();
    assert!(before.matches(CANARY).count() >= 4, "{before}");
    let mut dice = Dice(11);
    for (role, tries) in [("app", 6), ("svc", 6), ("owner", 6)] {
        let client = db.connect(role).await;
        client.run("SET statement_timeout = '20s'").await;
        for function in &functions {
            let mut calls = Vec::new();
            for _ in 0..if function[1].is_empty() { 1 } else { tries } {
                client.run("RESET bulkhead.tenant_context").await;
                client.run("SET bulkhead.tenant_context = 'shop-1'").await;
                let sql = call(function, &mut dice);
                judge(role, &sql, client.simple_query(&sql).await);
                calls.push(format!("{sql:.200}"));
            }
            let now = db.admin(PRIVILEGES).unwrap();
            assert!(now == before, "as {role}, one of {calls:#?}\n{}", changed(&before, &now));
        }
        assert_eq!(client.one("SELECT current_user || ' ' || session_user").await, format!("{role} {role}"));
    }
    assert_eq!(boss.one("SELECT count(*) FROM pg_class WHERE relname = 'mine'").await, "1");
}

fn changed(before: &str, now: &str) -> String {
    let beyond = |one: &str, other: &str, sign: char| {
        let new = |line: &&str| !other.lines().any(|known| known == *line);
        one.lines().filter(new).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    beyond(before, now, '-') + &beyond(now, before, '+')
}

/// What a process may take more after the second half of a function's calls.
const FLAT: u64 = 1 << 20;
const HALF: Duration = Duration::from_millis(60);

/// Each function's first call that is answered and its first that is refused, over and over.
async fn no_function_keeps_memory(db: Database) {
    world(&db).await;
    let functions = functions(&db.connect("postgres").await).await;
    let mut client = db.connect("svc").await;
    for function in &functions {
        let (mut dice, mut seen) = (Dice(7), BTreeMap::new());
        for _ in 0..if function[1].is_empty() { 1 } else { 25 } {
            let sql = call(function, &mut dice);
            let took = Instant::now();
            let answered = once(&mut client, &sql).await;
            if took.elapsed() < Duration::from_secs(1) {
                seen.entry(answered).or_insert(sql);
            }
        }
        for sql in seen.values() {
            let kept = kept(&mut client, |_| sql.clone()).await;
            assert!(kept.is_none(), "{sql:.300}\n{kept:?}");
        }
    }
    // Prepared statements are kept, which has to be noticed.
    let prepared = |number| format!("PREPARE of_{number} AS SELECT * FROM pg_class, pg_attribute, pg_type, pg_proc");
    assert!(kept(&mut client, prepared).await.is_some());
}

/// The sizes of the session's process as the statements went on, when it went on growing: its caches fill at first.
async fn kept(client: &mut Client, statement: impl Fn(usize) -> String) -> Option<Vec<u64>> {
    let process = client.one("SELECT pg_backend_pid()").await.parse().unwrap();
    let (mut sizes, mut number) = (Vec::new(), 0);
    for _ in 0..4 {
        let start = Instant::now();
        while start.elapsed() < HALF {
            once(client, &statement(number)).await;
            number += 1;
        }
        sizes.push(memory::private(process).unwrap());
    }
    let grows = sizes.windows(2).skip(1).all(|pair| pair[1] > pair[0]);
    (grows && sizes[3] - sizes[1] > FLAT).then_some(sizes)
}

async fn once(client: &mut Client, sql: &str) -> bool {
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute(BEFORE).await.unwrap();
    let answered = judge("svc", sql, transaction.simple_query(sql).await);
    transaction.rollback().await.unwrap();
    answered
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
