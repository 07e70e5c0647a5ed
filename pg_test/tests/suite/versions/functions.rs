//! Every function of the extension, by its signature: it is refused where the versions differ, or it touches nobody's rows.

use std::collections::BTreeMap;

use libtest_mimic::Trial;

use super::{as_shop, becomes, refused, world};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![every_function_that_touches_rows_is_refused]
}

/// What may be called whatever the versions are: it reads the context, computes, watches, or lets go.
const HARMLESS: &[&str] = &[
    "announce_inventory()",
    "announce_protection()",
    "before_alter_table()",
    "begin_bypass(text)",
    "claims()",
    "copied_row_bigint(bigint)",
    "copied_row_text(text)",
    "copied_row_uuid(uuid)",
    "follow_ddl()",
    "follow_drop()",
    "has_permission(text)",
    "has_role(text)",
    "health()",
    "jsonlogic(jsonb,jsonb)",
    "lint()",
    "read_metrics()",
    "read_naked_statements()",
    "request_fingerprint(text,text,jsonb)",
    "require_tenant()",
    // With rules that are given, not looked up; the one with a name is below.
    "score_explain(jsonb,jsonb)",
    "seal_active()",
    "set_tenant(text,boolean)",
    "status()",
    "tenant_id()",
    "tenant_id_bigint()",
    "tenant_id_text()",
    "user_id()",
];

/// A call of each of the others, as a superuser: an argument for each that the signature names, cast to its type.
pub const CALLS: &[(&str, &[&str])] = &[
    ("activate_rule_set(text,integer)", &["lead", "1"]),
    ("activate_shared_rule_set(text,integer)", &["lead", "1"]),
    ("all_poisoned_orders(regclass)", &[NULL]),
    ("attach_scoring(regclass,text,name,name,name,name)", &["note", "lead", "body", "score", "status", NULL]),
    ("decrement_inventory(regclass,text,text,bigint)", &["stock", "o", "a", "1"]),
    ("decrement_inventory(regclass,text[],text[],bigint[])", &["stock", "{o}", "{a}", "{1}"]),
    ("decrement_now(regclass,text,text,bigint,interval)", &["stock", "o", "a", "1", "5 s"]),
    ("decrement_now(regclass,text,text[],bigint[],interval)", &["stock", "o", "{a}", "{1}", "5 s"]),
    ("detach_scoring(regclass)", &["lead"]),
    ("drain_batch(regclass,integer,bigint[])", &["stock", "5", "{}"]),
    ("drain_inventory(regclass,integer,integer)", &["stock", "500", NULL]),
    ("enqueue_decrement(regclass,text,text,bigint)", &["stock", "o", "a", "1"]),
    ("enqueue_decrement(regclass,text,text[],bigint[])", &["stock", "o", "{a}", "{1}"]),
    ("ensure_partitions(regclass)", &["event"]),
    ("forget_poisoned(regclass,bigint[])", &["stock", NULL]),
    ("hold_partition(regclass,text)", &["event", "why"]),
    ("idempotency_claim(text,text,interval)", &["k", NULL, "1 minute"]),
    ("idempotency_complete(text,integer,jsonb,bigint)", &["k", "200", "{}", NULL]),
    ("idempotency_extend(text,interval,bigint)", &["k", "1 minute", NULL]),
    ("idempotency_release(text,bigint)", &["k", NULL]),
    ("leak_test(regclass)", &["note"]),
    ("lint_allow(text,text,text)", &["unprotected-table", "public.plain", "why"]),
    ("maintain()", &[]),
    ("maintenance_step()", &[]),
    ("manage_partitions(regclass,interval,interval,integer,regprocedure)", &["event", "1 day", "7 days", "3", NULL]),
    ("observe(regclass,name)", &["plain", "tenant_id"]),
    ("order_verdicts(regclass,text)", &["stock", "o"]),
    ("partition_plan(regclass,name,interval)", &["moment", "at", "1 day"]),
    ("poisoned_orders(regclass)", &["stock"]),
    ("protect(regclass,name)", &["plain", "tenant_id"]),
    ("protect_plan(regclass,name)", &["plain", "tenant_id"]),
    ("put_rule_set(text,jsonb,boolean)", &["lead", "[]", "true"]),
    ("put_shared_rule_set(text,jsonb,boolean)", &["lead", "[]", "true"]),
    ("register_inventory(regclass,name,name)", &["stock", "id", "quantity"]),
    ("release_hold(regclass)", &["event"]),
    ("release_order(regclass,text)", &["stock", "o"]),
    ("requeue_poisoned(regclass,bigint[])", &["stock", NULL]),
    ("rescore(regclass,boolean)", &["lead", "true"]),
    ("schedule_maintenance(text)", &["*/10 * * * *"]),
    ("score(text,jsonb)", &["lead", "{}"]),
    ("score_explain(text,jsonb)", &["lead", "{}"]),
    ("score_pending(regclass,integer,integer)", &["lead", "1000", NULL]),
    ("score_row(text,jsonb)", &["lead", "{}"]),
    (
        "scoring_step(regclass,text,timestamp with time zone,text,integer)",
        &["lead", "score_pending", "now", NULL, "10"],
    ),
    ("share(regclass)", &["plain"]),
    ("tenant_rule_sets()", &[]),
    ("unmanage_partitions(regclass)", &["event"]),
    ("unprotect(regclass)", &["note"]),
    ("unprotect_all()", &[]),
];

const NULL: &str = "NULL";

/// The statement that calls this function and no other of its name.
pub fn call(signature: &str, is_procedure: bool, values: &[&str]) -> String {
    let (name, types) = signature.trim_end_matches(')').split_once('(').unwrap();
    let types: Vec<&str> = types.split(',').filter(|name| !name.is_empty()).collect();
    assert_eq!(types.len(), values.len(), "{signature} has another number of arguments");
    let cast = |(value, name): (&&str, &&str)| match *value {
        NULL => format!("NULL::{name}"),
        value => format!("'{value}'::{name}"),
    };
    let arguments: Vec<String> = values.iter().zip(&types).map(cast).collect();
    format!("{} bulkhead.{name}({})", if is_procedure { "CALL" } else { "SELECT * FROM" }, arguments.join(", "))
}

async fn every_function_that_touches_rows_is_refused(WithWorkers(db): WithWorkers) {
    world(&db).await;
    let boss = as_shop(&db, "postgres").await;
    let all = "SELECT replace(oid::regprocedure::text, 'bulkhead.', ''), prokind = 'p' FROM pg_proc
                WHERE pronamespace = 'bulkhead'::regnamespace";
    let all: BTreeMap<String, bool> =
        boss.rows(all).await.into_iter().map(|row| (row[0].clone(), row[1] == "t")).collect();
    let calls: BTreeMap<&str, &[&str]> = CALLS.iter().copied().collect();
    for signature in all.keys() {
        let is_harmless = HARMLESS.contains(&signature.as_str());
        assert!(
            is_harmless != calls.contains_key(signature.as_str()),
            "what becomes of {signature} where versions differ?"
        );
    }
    for (signature, values) in &calls {
        let is_procedure = all.get(*signature).unwrap_or_else(|| panic!("there is no {signature}"));
        refused(&boss, &call(signature, *is_procedure, values)).await;
    }
    becomes(&db, "0.1.0");
    // The calls are such as would work.
    assert_eq!(boss.one("SELECT verdict FROM bulkhead.decrement_now('stock', 'o', 'a', 1::bigint)").await, "accepted");
    assert_eq!(boss.one("SELECT state FROM bulkhead.idempotency_claim('k')").await, "started");
    assert_eq!(boss.one("SELECT bulkhead.score('lead', '{}')").await, "0");
}
