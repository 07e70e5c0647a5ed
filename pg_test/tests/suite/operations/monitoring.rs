//! docs/examples/monitoring: what the files ask is there, and what is there is asked for.

use std::collections::BTreeSet;

use libtest_mimic::Trial;

use super::fixture::{forget, monitor, root, world};
use crate::harness::WithWorkers;

pub fn tests() -> Vec<Trial> {
    crate::tests![every_name_is_one_of_the_views, every_metric_has_a_panel, every_query_runs_for_a_monitor]
}

/// What the exporters call what they scrape, before Prometheus names it by its label; and the slow query on health().
const EXPORTERS: [&str; 5] = [
    "bulkhead_metrics",
    "bulkhead_metrics_value",
    "bulkhead_health_check",
    "bulkhead_health_check_ok",
    "bulkhead_health",
];

fn file(name: &str) -> String {
    std::fs::read_to_string(root().join("docs/examples/monitoring").join(name)).unwrap()
}

/// Every word that begins as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("bulkhead_")).map(str::to_owned).collect()
}

/// The names of a server on which every room is in use.
async fn of_the_view(db: &WithWorkers) -> BTreeSet<String> {
    world(db).await.run("SELECT * FROM bulkhead.decrement_now('stock', 'o-1', 'a', 1)").await;
    db.connect("postgres").await.column("SELECT DISTINCT name FROM bulkhead.metrics").await.into_iter().collect()
}

async fn every_name_is_one_of_the_views(db: WithWorkers) {
    let view = of_the_view(&db).await;
    for name in ["postgres_exporter.yaml", "sql_exporter.yaml", "prometheus.yaml", "alerts.yaml", "grafana.json"] {
        let names = names(&file(name));
        let unknown: Vec<_> =
            names.iter().filter(|name| !view.contains(*name) && !EXPORTERS.contains(&name.as_str())).collect();
        assert!(!names.is_empty() && unknown.is_empty(), "{name} names what bulkhead.metrics has not: {unknown:?}");
    }
}

async fn every_metric_has_a_panel(db: WithWorkers) {
    let view = of_the_view(&db).await;
    let dashboard: serde_json::Value = serde_json::from_str(&file("grafana.json")).unwrap();
    let mut asked = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_i64().unwrap()), "two panels have the id {}", panel["id"]);
        assert!(!panel["title"].as_str().unwrap().is_empty());
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let names = names(expression);
            assert!(!names.is_empty(), "{expression}");
            // What grows is shown as a rate, and nothing else is.
            let grows = names.iter().any(|name| name.ends_with("_total"));
            let is_rate = expression.contains("rate(") || expression.contains("increase(");
            assert_eq!(grows, is_rate, "{expression}");
            asked.extend(names);
        }
    }
    let missing: Vec<_> = view.iter().filter(|name| !asked.contains(*name)).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

/// The blocks that follow `query: |` in a file: lines that are indented more.
fn queries(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_end().ends_with("query: |")) {
        let block = lines[at + 1..].iter().take_while(|next| next.trim().is_empty() || indent(next) > indent(line));
        found.push(block.map(|line| line.trim()).collect::<Vec<_>>().join("\n"));
    }
    found
}

async fn every_query_runs_for_a_monitor(db: WithWorkers) {
    let view = of_the_view(&db).await;
    let (role, client) = monitor(&db).await;
    let labels = client.column("SELECT DISTINCT k FROM bulkhead.metrics, jsonb_object_keys(labels) k").await;
    for name in ["postgres_exporter.yaml", "sql_exporter.yaml"] {
        let text = file(name);
        let queries = queries(&text);
        assert_eq!(queries.len(), 2, "{name}: {queries:?}");
        for query in &queries {
            let statement = client.prepare(query).await.unwrap_or_else(|error| panic!("{name}: {query}: {error}"));
            let rows = client.query(&statement, &[]).await.unwrap();
            assert!(!rows.is_empty(), "{name}: {query}");
            // Each column is told to the exporter, and each label of the view is a column.
            let columns: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
            for column in &columns {
                assert!(text.contains(&format!("- {column}")), "{name} does not say what column {column} is");
            }
            if query.contains("bulkhead.metrics") {
                let missing: Vec<_> = labels.iter().filter(|label| !columns.contains(&label.as_str())).collect();
                assert!(missing.is_empty(), "{name} leaves out the labels {missing:?}");
                let told: BTreeSet<String> = rows.iter().map(|row| row.get::<_, String>("metric")).collect();
                assert_eq!(told, view);
            }
        }
    }
    drop(client);
    forget(&db, &role);
}
