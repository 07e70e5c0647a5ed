//! bulkhead.metrics: numbers for Prometheus, of bounded cost.
//!
//! A name is Prometheus' way: base units, `_total` for what only grows. Labels name tables, checks and states, and never a tenant: each would be a series of its own,
//! and whoever reads the metrics need not know who the customers are. What can only be had by reading all rows of something is left to health().

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value};

use super::checks;
use crate::error::Result;
use crate::inventory::group::survey::{self, Here};
use crate::pg::counters::{self, Counter};
use crate::pg::library::{self, Loaded};
use crate::pg::security;
use crate::seal::decision;
use crate::{inventory, observe, partition, scoring};

pub struct Sample {
    pub name: &'static str,
    pub labels: Value,
    pub value: f64,
    pub help: &'static str,
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn put(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64, help: &'static str) {
        let labels: Map<String, Value> =
            labels.iter().map(|(label, value)| ((*label).to_owned(), Value::String(readable(value)))).collect();
        self.0.push(Sample { name, labels: Value::Object(labels), value, help });
    }

    fn count(&mut self, name: &'static str, labels: &[(&str, &str)], counter: Counter, help: &'static str) {
        if let Some(count) = counters::read(counter) {
            self.put(name, labels, count as f64, help);
        }
    }
}

/// What is returned is UTF-8; in a database of another encoding only ASCII means the same in both.
fn readable(text: &str) -> String {
    match text.is_ascii() || security::database_is_utf8() {
        true => text.to_owned(),
        false => text.replace(|letter: char| !letter.is_ascii(), "?"),
    }
}

fn one_if(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

pub fn all() -> Result<Vec<Sample>> {
    let begun = Instant::now();
    let mut samples = Samples::default();
    borders(&mut samples)?;
    partitions(&mut samples)?;
    inventories(&mut samples)?;
    group_commit(&mut samples);
    scores(&mut samples)?;
    samples.put(
        "bulkhead_scrape_duration_seconds",
        &[],
        begun.elapsed().as_secs_f64(),
        "How long it took to read these metrics.",
    );
    Ok(samples.0)
}

fn borders(samples: &mut Samples) -> Result<()> {
    let load_level = match library::loaded() {
        Loaded::Shared => "shared",
        Loaded::Session => "session",
        Loaded::OnFirstUse => "on_first_use",
    };
    let labels = [("version", library::VERSION), ("load_level", load_level)];
    samples.put("bulkhead_info", &labels, 1.0, "The library's version, and how it was loaded.");
    samples.put(
        "bulkhead_seal_active",
        &[],
        one_if(decision::everywhere()),
        "1 where protected tables are filtered for every role of every session.",
    );
    samples.put("bulkhead_protected_tables", &[], checks::protected()? as f64, "Protected tables of this database.");
    for (reason, counter) in
        [("no_tenant", Counter::NoTenant), ("other_tenant", Counter::OtherTenant), ("token", Counter::Token)]
    {
        samples.count(
            "bulkhead_refusals_total",
            &[("reason", reason)],
            counter,
            "Statements refused since the server started: no tenant, a second tenant in one transaction, or a token that does not verify.",
        );
    }
    samples.count(
        "bulkhead_bypasses_total",
        &[],
        Counter::Bypass,
        "Times that the seal was lifted since the server started, each a line of the server log.",
    );
    if let Some((used, evicted)) = observe::fill() {
        for (state, places) in [("used", used), ("free", observe::PLACES - used)] {
            samples.put(
                "bulkhead_observe_places",
                &[("state", state)],
                places as f64,
                "Places for statements without a tenant on observed tables, of the whole server.",
            );
        }
        samples.put(
            "bulkhead_observe_evictions_total",
            &[],
            evicted as f64,
            "Observed statements that gave their place to another since the server started.",
        );
    }
    Ok(())
}

fn partitions(samples: &mut Samples) -> Result<()> {
    let (tables, checks) = partition::watch()?;
    for table in &tables {
        let labels = [("table", table.table.as_str())];
        let mut put = |name, value, help| samples.put(name, &labels, value, help);
        put("bulkhead_partitions", table.partitions as f64, "Partitions of a managed table.");
        put("bulkhead_partitions_held", table.held as f64, "Partitions that hold_partition() keeps.");
        if let Some(runway) = table.runway {
            put("bulkhead_partition_runway_seconds", runway, "Time until the last partition ends; 0: inserts fail.");
        }
        if let Some(oldest) = table.oldest {
            put("bulkhead_partition_oldest_seconds", oldest, "Time since the oldest partition began.");
        }
        put(
            "bulkhead_partition_overdue_seconds",
            table.overdue,
            "Time since the most overdue partition should have been dropped.",
        );
        if let Some(last_run) = table.last_run {
            put("bulkhead_maintenance_age_seconds", last_run, "Time since maintain() went through the table.");
        }
        put("bulkhead_maintenance_failures", table.failures, "What maintain() could not do in the last hour.");
        put("bulkhead_partition_rows", table.rows, "Rows of all partitions, as the server's statistics have them.");
        put(
            "bulkhead_partition_bytes",
            table.bytes,
            "Bytes of all partitions with their indexes, as VACUUM or ANALYZE saw them last.",
        );
    }
    for check in &checks {
        samples.put(
            "bulkhead_health_ok",
            &[("check", check.name)],
            one_if(check.ok),
            "A check of health() that costs little: 1 when it is well. The others are only in health().",
        );
    }
    Ok(())
}

fn inventories(samples: &mut Samples) -> Result<()> {
    // Whatever has the same name here is one: of two rows with the same labels a scraper takes neither.
    let mut by_name: BTreeMap<String, inventory::Estimate> = BTreeMap::new();
    for (relation, estimate) in inventory::estimate()? {
        let relation = relation.into();
        let name = match security::exists(relation) {
            true => readable(&security::relation_name(relation)),
            false => "(dropped)".to_owned(),
        };
        let all = by_name.entry(name).or_default();
        all.orders += estimate.orders;
        all.longest = all.longest.max(estimate.longest);
        all.set_aside += estimate.set_aside;
    }
    for (name, estimate) in by_name {
        let labels = [("table", name.as_str())];
        let mut put = |name, value, help| samples.put(name, &labels, value, help);
        put("bulkhead_queue_orders", estimate.orders.round(), "Orders in the queue; an estimate where much waits.");
        put(
            "bulkhead_queue_oldest_seconds",
            estimate.longest as f64 / 1e6,
            "Time that the queued order waits that waits longest.",
        );
        put(
            "bulkhead_queue_poisoned_orders",
            estimate.set_aside.round(),
            "Orders that were set aside because they cannot be decided.",
        );
    }
    Ok(())
}

fn group_commit(samples: &mut Samples) {
    let Some(slots) = survey::slots() else { return };
    let waited_for = slots.used.saturating_sub(slots.left);
    let states = [("free", slots.all - slots.used), ("used", waited_for), ("abandoned", slots.left)];
    for (state, count) in states {
        samples.put(
            "bulkhead_group_commit_slots",
            &[("state", state)],
            count as f64,
            "Slots of decrement_now(), of the whole server; abandoned: nobody waits for the order any more.",
        );
    }
    samples.count(
        "bulkhead_group_commit_batches_total",
        &[],
        Counter::Batches,
        "Batches of decrement_now() since the server started.",
    );
    samples.count(
        "bulkhead_group_commit_orders_total",
        &[],
        Counter::Orders,
        "Orders that decrement_now() decided since the server started.",
    );
    samples.count(
        "bulkhead_queue_drained_total",
        &[],
        Counter::Drained,
        "Queued orders that the worker decided or set aside since the server started.",
    );
    samples.put(
        "bulkhead_launcher_running",
        &[],
        one_if(survey::has_launcher()),
        "1 when the process is there that starts workers.",
    );
    samples.put(
        "bulkhead_worker_running",
        &[],
        one_if(survey::here() == Here::AtWork),
        "1 when this database has a worker now; one that nobody needs ends.",
    );
    samples.put("bulkhead_workers", &[], survey::workers() as f64, "Workers of the whole server.");
}

fn scores(samples: &mut Samples) -> Result<()> {
    for (table, rows, idle) in scoring::estimate()? {
        let labels = [("table", table.as_str())];
        samples.put(
            "bulkhead_scoring_pending_rows",
            &labels,
            rows as f64,
            "Rows that wait to be scored, counted up to 10000; only where an index finds them.",
        );
        if let Some(idle) = idle {
            samples.put(
                "bulkhead_scoring_idle_seconds",
                &labels,
                idle.max(0) as f64 / 1e6,
                "Time since score_pending() or rescore() did a batch.",
            );
        }
    }
    Ok(())
}
