//! A call of each function that is answered, changed in one argument after the other: what lies behind the first checks, where dice never come.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::{PRIVILEGES, judge, values, world};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![an_answered_call_changed => 300, views_show_nothing_of_others => 120]
}

const PARTITION: &str = "(SELECT min(inhrelid)::regclass FROM pg_inherits WHERE inhparent = 'event'::regclass)";
const UUID: &str = "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'";

/// A function; what its owner of tables does before each call; and arguments that are answered. `{n}` is another number in each call.
type Good = (&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const GOOD: &[Good] = &[
    ("activate_rule_set(text,integer)", "SELECT bulkhead.put_rule_set('own', '[]')", &["'own'", "1"]),
    ("activate_shared_rule_set(text,integer)", "", &["'lead'", "1"]),
    ("all_poisoned_orders(regclass)", "", &["'stock'"]),
    ("attach_scoring(regclass,text,name,name,name,name)", "", &["'attached'", "'lead'", "'document'", "'score'", "'status'", "NULL"]),
    ("begin_bypass(text)", "", &["'why'"]),
    ("claims()", "", &[]),
    ("copied_row_bigint(bigint)", "SET bulkhead.tenant_context = '7'", &["7"]),
    ("copied_row_text(text)", "", &["'shop-1'"]),
    ("copied_row_uuid(uuid)", "SET bulkhead.tenant_context = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", &[UUID]),
    ("decrement_inventory(regclass,text,text,bigint)", "", &["'stock'", "'one-{n}'", "'a'", "1"]),
    ("decrement_inventory(regclass,text[],text[],bigint[])", "", &["'stock'", "'{many-{n}}'", "'{a}'", "'{1}'"]),
    ("decrement_now(regclass,text,text,bigint,interval)", "", &["'stock'", "'now-{n}'", "'a'", "1", "'5 s'"]),
    ("decrement_now(regclass,text,text[],bigint[],interval)", "", &["'stock'", "'both-{n}'", "'{a}'", "'{1}'", "'5 s'"]),
    ("detach_scoring(regclass)", "SELECT bulkhead.attach_scoring('attached', 'lead')", &["'attached'"]),
    ("drain_batch(regclass,integer,bigint[])", "", &["'stock'", "5", "'{}'"]),
    ("drain_inventory(regclass,integer,integer)", "", &["'stock'", "5", "1"]),
    ("enqueue_decrement(regclass,text,text,bigint)", "", &["'stock'", "'later-{n}'", "'a'", "1"]),
    ("enqueue_decrement(regclass,text,text[],bigint[])", "", &["'stock'", "'then-{n}'", "'{a}'", "'{1}'"]),
    ("ensure_partitions(regclass)", "", &["'event'"]),
    ("forget_poisoned(regclass,bigint[])", "", &["'stock'", "'{1}'"]),
    ("has_permission(text)", "", &["'x'"]),
    ("has_role(text)", "", &["'x'"]),
    ("health()", "", &[]),
    ("hold_partition(regclass,text)", "", &[PARTITION, "'why'"]),
    ("idempotency_claim(text,text,interval)", "", &["'claimed-{n}'", "NULL", "'1 minute'"]),
    ("idempotency_complete(text,integer,jsonb,bigint)", "SELECT bulkhead.idempotency_claim('done-{n}')", &["'done-{n}'", "200", "'{}'", "NULL"]),
    ("idempotency_extend(text,interval,bigint)", "SELECT bulkhead.idempotency_claim('longer-{n}')", &["'longer-{n}'", "'1 minute'", "NULL"]),
    ("idempotency_release(text,bigint)", "SELECT bulkhead.idempotency_claim('free-{n}')", &["'free-{n}'", "NULL"]),
    ("jsonlogic(jsonb,jsonb)", "", &["'{\"==\": [{\"var\": \"a\"}, 1]}'", "'{\"a\": 1}'"]),
    ("lint()", "", &[]),
    ("lint_allow(text,text,text)", "", &["'undeclared-table'", "'public.stock'", "'why'"]),
    ("maintain()", "", &[]),
    ("maintenance_step()", "", &[]),
    ("manage_partitions(regclass,interval,interval,integer,regprocedure)", "", &["'event'", "'1 day'", "'7 days'", "3", "NULL"]),
    ("observe(regclass,name)", "", &["'watched'", "'tenant_id'"]),
    ("order_verdicts(regclass,text)", "SELECT bulkhead.decrement_inventory('stock', 'told', 'a', 1)", &["'stock'", "'told'"]),
    ("partition_plan(regclass,name,interval)", "", &["'moment'", "'at'", "'1 day'"]),
    ("poisoned_orders(regclass)", "", &["'stock'"]),
    ("protect(regclass,name)", "", &["'bare'", "'tenant_id'"]),
    ("protect_plan(regclass,name)", "", &["'watched'", "'tenant_id'"]),
    ("put_rule_set(text,jsonb,boolean)", "", &["'own'", "'[{\"id\": \"a\", \"when\": true, \"score\": 1}]'", "true"]),
    ("put_shared_rule_set(text,jsonb,boolean)", "", &["'other'", "'[]'", "true"]),
    ("read_metrics()", "", &[]),
    ("read_naked_statements()", "", &[]),
    ("register_inventory(regclass,name,name)", "", &["'stock'", "'id'", "'quantity'"]),
    ("release_hold(regclass)", "SELECT bulkhead.hold_partition((SELECT min(inhrelid)::regclass FROM pg_inherits WHERE inhparent = 'event'::regclass), 'why')", &[PARTITION]),
    ("release_order(regclass,text)", "SELECT bulkhead.decrement_inventory('stock', 'back-{n}', 'a', 1)", &["'stock'", "'back-{n}'"]),
    ("request_fingerprint(text,text,jsonb)", "", &["'POST'", "'/x'", "'{}'"]),
    ("requeue_poisoned(regclass,bigint[])", "", &["'stock'", "'{1}'"]),
    ("require_tenant()", "", &[]),
    ("rescore(regclass,boolean)", "", &["'scored'", "true"]),
    ("score(text,jsonb)", "", &["'lead'", "'{}'"]),
    ("score_explain(jsonb,jsonb)", "", &["'[]'", "'{}'"]),
    ("score_explain(text,jsonb)", "", &["'lead'", "'{}'"]),
    ("score_pending(regclass,integer,integer)", "", &["'scored'", "10", "1"]),
    ("score_row(text,jsonb)", "", &["'lead'", "'{}'"]),
    ("scoring_step(regclass,text,timestamp with time zone,text,integer)", "", &["'scored'", "'score_pending'", "now()", "NULL", "10"]),
    ("seal_active()", "", &[]),
    ("set_tenant(text,boolean)", "", &["'shop-1'", "false"]),
    ("share(regclass)", "", &["'prices'"]),
    ("status()", "", &[]),
    ("tenant_id()", "", &[]),
    ("tenant_id_bigint()", "", &[]),
    ("tenant_id_text()", "", &[]),
    ("tenant_rule_sets()", "", &[]),
    ("unmanage_partitions(regclass)", "SELECT bulkhead.manage_partitions('event', '1 day', '7 days')", &["'event'"]),
    ("unprotect(regclass)", "SELECT bulkhead.observe('watched')", &["'watched'"]),
    ("user_id()", "", &[]),
];

/// What is refused to a plain role here whatever it is given, and why.
const REFUSED: [(&str, &str, &str); 3] = [
    ("leak_test(regclass)", "SELECT bulkhead.leak_test()", "it acts as every role"),
    (
        "schedule_maintenance(text)",
        "SELECT bulkhead.schedule_maintenance()",
        "pg_cron keeps its jobs in another database",
    ),
    (
        "unprotect_all()",
        "SELECT bulkhead.unprotect_all()",
        "it would take tables out of the seal, which needs a bypass",
    ),
];

async fn rooms(db: &Database) {
    world(db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE event (tenant_id text, at timestamptz NOT NULL) PARTITION BY RANGE (at); SELECT bulkhead.manage_partitions('event', '1 day', '7 days');
             CREATE TABLE moment (at timestamptz NOT NULL); CREATE TABLE bare (tenant_id text); CREATE TABLE watched (tenant_id text);
             CREATE TABLE prices (sku text); CREATE TABLE attached (document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score');
             CREATE TABLE scored (id serial PRIMARY KEY, document jsonb, score numeric, status text NOT NULL DEFAULT 'pending_score', version int);
             SELECT bulkhead.attach_scoring('scored', 'lead', version_column => 'version'); INSERT INTO scored (document) SELECT '{}' FROM generate_series(1, 50);
             UPDATE stock SET quantity = 1000000",
        )
        .await;
    db.admin(
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bulkhead TO owner; GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA bulkhead TO owner;
         CALL bulkhead.maintain()",
    )
    .unwrap();
}

/// `name(types)` of all that can be called, and how.
async fn callable(boss: &Client) -> Vec<(String, &'static str)> {
    let all = "SELECT p.prokind, p.proname || '(' || coalesce((SELECT string_agg(format_type(t, NULL), ',' ORDER BY n)
                        FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n)), '') || ')'
                 FROM pg_proc p WHERE p.pronamespace = 'bulkhead'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
                ORDER BY 2";
    let how = |kind: &str| if kind == "p" { "CALL" } else { "SELECT * FROM" };
    boss.rows(all).await.into_iter().map(|row| (row[1].clone(), how(&row[0]))).collect()
}

/// The call as it is, and with each argument in turn replaced by each value of its type.
fn changes(signature: &str, arguments: &[&str]) -> Vec<Vec<String>> {
    let types = signature.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap();
    let types: Vec<&str> = types.split(',').filter(|of_type| !of_type.is_empty()).collect();
    assert_eq!(types.len(), arguments.len(), "{signature}");
    let typed: Vec<String> =
        arguments.iter().zip(&types).map(|(value, of_type)| format!("{value}::{of_type}")).collect();
    let mut all = vec![typed.clone()];
    for (at, of_type) in types.iter().enumerate() {
        for value in values(of_type) {
            let mut changed = typed.clone();
            changed[at] = format!("{value}::{of_type}");
            all.push(changed);
        }
    }
    all
}

async fn an_answered_call_changed(WithWorkers(db): WithWorkers) {
    rooms(&db).await;
    let boss = db.connect("postgres").await;
    let callable = callable(&boss).await;
    for (signature, _) in &callable {
        let is_known =
            GOOD.iter().any(|(known, ..)| known == signature) || REFUSED.iter().any(|(known, ..)| known == signature);
        assert!(is_known, "GOOD has no call of {signature} that is answered");
    }
    let before = db.admin(PRIVILEGES).unwrap();
    let (mut number, mut answered, mut refused) = (0, 0, 0);
    for role in ["owner", "svc", "app"] {
        let client = db.connect(role).await;
        client.run("SET statement_timeout = '20s'").await;
        for (signature, first, arguments) in GOOD {
            let (_, how) = callable
                .iter()
                .find(|(known, _)| known == signature)
                .unwrap_or_else(|| panic!("there is no {signature}"));
            let name = signature.split('(').next().unwrap_or_default();
            for (at, arguments) in changes(signature, arguments).iter().enumerate() {
                number += 1;
                let numbered = |sql: &str| sql.replace("{n}", &number.to_string());
                client.run("RESET bulkhead.tenant_context").await;
                client.run("SET bulkhead.tenant_context = 'shop-1'").await;
                let ready = first.is_empty() || client.simple_query(&numbered(first)).await.is_ok();
                let sql = numbered(&format!("{how} bulkhead.{name}({})", arguments.join(", ")));
                let is_answered = judge(role, &sql, client.simple_query(&sql).await);
                assert!(
                    at > 0 || role != "owner" || (ready && is_answered),
                    "{first}; {sql} is to be answered, and is {:?}",
                    client.try_run(&sql).await
                );
                *if is_answered { &mut answered } else { &mut refused } += 1;
            }
            let now = db.admin(PRIVILEGES).unwrap();
            assert!(now == before, "as {role}, {signature}\n{}", super::changed(&before, &now));
        }
    }
    assert!(answered > 1_000 && refused > 1_000, "{answered} answered, {refused} refused");
    for (_, call, why) in REFUSED {
        let refused = db.connect("owner").await.try_run(call).await.is_err();
        assert!(refused, "{call} is answered, although {why}");
    }
}

/// Each table and view of the extension's, as each role: a row of another tenant's is not in it.
async fn views_show_nothing_of_others(db: Database) {
    rooms(&db).await;
    let boss = db.connect("postgres").await;
    let shown = boss.column("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'bulkhead'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')").await;
    assert!(shown.len() > 30, "{shown:?}");
    let mut answered = Vec::new();
    for role in ["app", "svc", "owner"] {
        let client = db.connect(role).await;
        client.run("SET bulkhead.tenant_context = 'shop-1'").await;
        for relation in &shown {
            let sql = format!("SELECT * FROM {relation}");
            if judge(role, &sql, client.simple_query(&sql).await) {
                answered.push(relation.as_str());
            }
        }
    }
    for view in ["bulkhead.protected_tables", "bulkhead.rule_sets", "bulkhead.managed_partitions"] {
        assert_eq!(answered.iter().filter(|known| **known == view).count(), 3, "{view}: {answered:?}");
    }
}
