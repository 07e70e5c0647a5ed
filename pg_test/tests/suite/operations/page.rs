//! docs/operations.md has a place for everything that can call somebody out of bed.

use std::collections::BTreeMap;

use libtest_mimic::Trial;
use pg_test::{Cluster, Database, Preload};

use super::fixture::world;
use super::generated;
use crate::harness::{Nowhere, WithWorkers};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        every_check_has_a_runbook,
        every_sqlstate_has_a_runbook,
        every_metric_is_explained,
        shared_memory_is_as_large_as_told,
        a_verdict_and_a_key_are_as_large_as_told => 240,
        the_library_is_appended_to_what_is_preloaded => 240,
    ]
}

fn has_heading(page: &str, heading: &str) -> bool {
    page.lines().any(|line| line.strip_prefix("### ").is_some_and(|title| title.split(' ').next() == Some(heading)))
}

async fn every_check_has_a_runbook(db: Database) {
    let page = generated::page("operations.md");
    let checks = db.connect("postgres").await.column("SELECT check_name FROM bulkhead.health()").await;
    let missing: Vec<_> = checks.iter().filter(|check| !has_heading(&page, &format!("`{check}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md has no section ### `...` for {missing:?}");
}

async fn every_sqlstate_has_a_runbook(_: Nowhere) {
    let page = generated::page("operations.md");
    let codes: std::collections::BTreeSet<_> = super::errors::all().into_iter().map(|error| error.sqlstate).collect();
    assert!(codes.len() > 8, "{codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !has_heading(&page, code)).collect();
    assert!(missing.is_empty(), "docs/operations.md has no section ### for {missing:?}");
}

async fn every_metric_is_explained(db: WithWorkers) {
    world(&db).await;
    let client = db.connect("postgres").await;
    let rows = client
        .rows(
            "SELECT name, coalesce((SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(labels) key), ''), help
               FROM bulkhead.metrics",
        )
        .await;
    let metrics: BTreeMap<String, (String, String)> =
        rows.into_iter().map(|row| (row[0].clone(), (row[1].clone(), row[2].clone()))).collect();
    let mut text = String::from("| metric | labels | what it is |\n|---|---|---|\n");
    for (name, (labels, help)) in &metrics {
        text.push_str(&generated::row(&[&format!("`{name}`"), labels, help]));
    }
    generated::is("operations.md", "metrics", &text);
}

async fn shared_memory_is_as_large_as_told(_: Nowhere) {
    let cluster = Cluster::builder().setting("bulkhead.decrement_slots", "1024").start().unwrap();
    let memory = "SELECT name, allocated_size FROM pg_shmem_allocations WHERE name LIKE 'bulkhead%' ORDER BY name";
    let few = cluster.admin("postgres", memory).unwrap();
    cluster.admin("postgres", "ALTER SYSTEM SET bulkhead.decrement_slots = 2048").unwrap();
    cluster.restart().unwrap();
    let many = cluster.admin("postgres", memory).unwrap();
    let sizes = |text: &str| -> BTreeMap<String, i64> {
        let lines = text.lines().filter_map(|line| line.split_once('|'));
        lines.map(|(name, size)| (name.to_owned(), size.trim().parse().unwrap())).collect()
    };
    let (few, many) = (sizes(&few), sizes(&many));
    let commit = "bulkhead group commit";
    let each = (many[commit] - few[commit]) / 1024;
    let mut text = String::from("| in `pg_shmem_allocations` | bytes |\n|---|---|\n");
    for (name, size) in &few {
        let size = match name == commit {
            true => format!("{} and {each} for each slot", size - 1024 * each),
            false => size.to_string(),
        };
        text.push_str(&generated::row(&[&format!("`{name}`"), &size]));
    }
    generated::is("operations.md", "shared memory", &text);
}

/// The number before a word in the page, as in "`about 190 bytes a verdict`".
fn told(words: &str) -> f64 {
    let page = generated::page("operations.md");
    let at = page.find(words).unwrap_or_else(|| panic!("docs/operations.md does not say: {words}"));
    let number = page[..at].trim_end().rsplit(' ').next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("{number} before {words} is no number"))
}

async fn a_verdict_and_a_key_are_as_large_as_told(db: Database) {
    world(&db).await;
    let client = db.connect("postgres").await;
    client
        .run(&format!(
            "SET bulkhead.tenant_context = '{}';
             INSERT INTO stock SELECT 'sku-' || g, 1000000 FROM generate_series(1, 100) g;
             SELECT count(*) FROM (SELECT bulkhead.decrement_inventory('stock', array_agg('order-' || gen_random_uuid()), array_agg('sku-' || g % 100 + 1), array_agg(1::bigint))
                                     FROM generate_series(1, 20000) g GROUP BY g / 500) d;
             SELECT bulkhead.idempotency_claim(gen_random_uuid()::text, repeat('f', 64)) FROM generate_series(1, 20000);",
            super::fixture::TENANT
        ))
        .await;
    for (table, words) in [("order_verdict", "bytes a verdict"), ("idempotency_key", "bytes a key")] {
        let size = format!(
            "SELECT sum(pg_total_relation_size(inhrelid)) / 20000.0 FROM pg_inherits WHERE inhparent = 'bulkhead.{table}'::regclass"
        );
        let measured: f64 = client.one(&size).await.parse().unwrap();
        let told = told(words);
        assert!((told * 0.85..told * 1.15).contains(&measured), "{table}: {measured} measured, {told} told");
    }
}

/// The block that follows a marker in the page.
fn block(marker: &str) -> String {
    let page = generated::page("operations.md");
    let from = page.find(marker).unwrap_or_else(|| panic!("docs/operations.md has no {marker}"));
    let block = page[from..].split("```").nth(1).unwrap();
    block.split_once('\n').unwrap().1.to_owned()
}

async fn the_library_is_appended_to_what_is_preloaded(_: Nowhere) {
    let cluster =
        Cluster::builder().preload(Preload::None).setting("shared_preload_libraries", "auto_explain, \"pg_prewarm\"");
    let cluster = cluster.start().unwrap();
    let snippet = block("<!-- append to what is preloaded -->");
    for _ in 0..2 {
        let output = cluster.psql("postgres", "postgres", &snippet).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        cluster.restart().unwrap();
        let loaded = cluster.admin("postgres", "SHOW shared_preload_libraries").unwrap();
        assert_eq!(loaded.trim(), "auto_explain, pg_prewarm, bulkhead");
    }
}
