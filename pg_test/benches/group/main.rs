//! Group commit: orders a second and what each waits, each with a verdict in a ledger, durable, over the number of sessions.
//!
//! decrement_now() against decrement_inventory() with one line, one atomic UPDATE, and SELECT … FOR UPDATE in statements of the client's, all on one item; then a thousand items,
//! uniformly and by Zipf's law, from 64 sessions; ten tenants of which one floods; and how soon a queued order is decided.

mod arms;
mod others;
mod tables;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pg_test::bench::chart::{Axis, Curve, Lines};
use pg_test::bench::demand::Demand;
use pg_test::bench::report::Figure;
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::stats::percentile;
use pg_test::bench::throughput::{slice, timed_slice};
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker, there_and_back};
use pg_test::{Database, Preload, progress};

use arms::{Buyer, WAYS, Way};

fn main() -> ExitCode {
    bench::main("group", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let cluster = server::start_with(Preload::Shared, &[("max_connections", "1200")])?;
    let conditions = Conditions::of(&cluster, options);
    let mut report = Report::new("group", "what each of many callers gets, and when", conditions);
    report.notes = vec![
        "Orders a second, each with a row in the ledger, looked up before. synchronous_commit = on.".into(),
        "By hand: the table by_hand and a ledger of the same columns and primary keys; digests by md5. Both ledgers have 1,000,000 verdicts over 8 days before it begins.".into(),
    ];
    let database = cluster.database("group")?;
    progress::stage("made the tables", || tables::make(&database, options))?;
    let mut charts = Charts::default();
    let measured = all(&database, options, &mut report, &mut charts).await;
    // Also what was measured before a fault.
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    measured?;
    for (name, chart) in charts.whole() {
        let path = directory.join(name);
        chart.write(&path)?;
        report.publish_chart(&path)?;
    }
    Ok(())
}

/// A point of each way's curve for each number of sessions.
#[derive(Default)]
struct Charts {
    rates: [Vec<(f64, f64)>; WAYS.len()],
    waits: [Vec<(f64, f64)>; WAYS.len()],
}

impl Charts {
    /// With the names of their files.
    fn whole(&self) -> [(&'static str, Lines); 2] {
        let lines = |title: &str, up: &str, points: &[Vec<(f64, f64)>]| Lines {
            title: title.into(),
            subtitle: "one item; the median of the rounds".into(),
            across: Axis { name: "sessions".into(), is_doubling: true },
            up: Axis { name: up.into(), is_doubling: true },
            limit: None,
            curves: WAYS
                .iter()
                .zip(points)
                .map(|(way, points)| Curve { name: way.name().into(), points: points.clone() })
                .collect(),
        };
        [
            (
                "group.svg",
                lines("Orders a second, durable, each with its verdict in the ledger", "orders a second", &self.rates),
            ),
            ("group-p99.svg", lines("What one order in a hundred waits at least (p99)", "milliseconds", &self.waits)),
        ]
    }
}

async fn all(database: &Database, options: &Options, report: &mut Report, charts: &mut Charts) -> Result<()> {
    let counts: &[usize] = options.pick(&[1, 2, 4, 8, 16, 32, 64, 128, 200, 256], &[1, 8]);
    for count in counts {
        let title = format!("one item, {count} session{}", if *count == 1 { "" } else { "s" });
        // Against the one line, the atomic statement, FOR UPDATE.
        let targets = match count {
            1 => [None, Some(0.9), None],
            8 => [None, Some(3.0), None],
            200 => [None, Some(20.0), Some(35.0)],
            _ => [None; 3],
        };
        compare(database, &title, *count, Demand::Hot, targets, options, report, charts).await?;
    }
    let crowd = options.pick(64, 8);
    for (demand, name, target) in [(Demand::Uniform, "uniformly", 0.9), (Demand::Zipf, "by Zipf's law", 3.0)] {
        let title = format!("1,000 items, {name}, {crowd} sessions");
        compare(database, &title, crowd, demand, [None, Some(target), None], options, report, charts).await?;
    }
    others::flood(database, options, report).await?;
    others::queue(database, options, report).await
}

/// decrement_now() against each of the others, in turns.
#[allow(clippy::too_many_arguments)]
async fn compare(
    database: &Database,
    title: &str,
    sessions: usize,
    demand: Demand,
    targets: [Option<f64>; 3],
    options: &Options,
    report: &mut Report,
    charts: &mut Charts,
) -> Result<()> {
    let length = Duration::from_millis(options.pick(1_000, 150));
    let rounds = options.pick(5, 1);
    let mut ready = Vec::new();
    for way in WAYS {
        let mut buyers = Vec::new();
        for _ in 0..sessions {
            buyers.push(Arc::new(Buyer::new(database, way, demand).await?));
        }
        slice(&buyers, length / 2).await?;
        ready.push(buyers);
    }
    let mut ticker = Ticker::new(title.to_owned(), rounds);
    let (mut rates, mut waits) = (Rounds::<4>::default(), Rounds::<4>::default());
    while rates.count() < rounds {
        for which in there_and_back(WAYS.len()) {
            let (rate, times) = timed_slice(&ready[which], length / 2).await?;
            rates.add(which, rate);
            waits.add(which, percentile(&times, 99.0));
        }
        rates.end_round();
        waits.end_round();
        ticker.tick(rates.count());
    }
    for (at, way) in WAYS.iter().enumerate().skip(1) {
        report.lines.push(Line {
            what: title.to_owned(),
            ours: Figure(rates.median(0), "orders a second"),
            rival: way.name().into(),
            rival_figure: Figure(rates.median(at), "orders a second"),
            results: rates.ratios(0, at),
            unit: Line::TIMES,
            target: targets[at - 1].map(Target::AtLeast),
        });
        report.lines.push(Line {
            what: format!("{title}, p99"),
            ours: Figure(waits.median(0), "ms"),
            rival: way.name().into(),
            rival_figure: Figure(waits.median(at), "ms"),
            results: waits.ratios(0, at),
            unit: Line::TIMES,
            target: (sessions == 200 && *way != Way::Line).then_some(Target::AtMost(0.05)),
        });
    }
    if demand == Demand::Hot {
        for at in 0..WAYS.len() {
            charts.rates[at].push((sessions as f64, rates.median(at)));
            charts.waits[at].push((sessions as f64, waits.median(at)));
        }
    }
    Ok(())
}
