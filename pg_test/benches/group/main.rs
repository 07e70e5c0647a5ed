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
use pg_test::bench::chart::{Bar, Bars, Group};
use pg_test::bench::demand::Demand;
use pg_test::bench::report::{Figure, grouped};
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
        "By hand: the table by_hand and a ledger of the same columns and primary key; digests by md5.".into(),
    ];
    let database = cluster.database("group")?;
    progress::stage("made the tables", || tables::make(&database))?;
    let mut charts = Charts::default();
    let measured = all(&database, options, &mut report, &mut charts).await;
    // Also what was measured before a fault.
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    measured?;
    for (name, title, axis, groups) in [
        ("group.svg", "Orders a second, durable, each with its verdict in the ledger", "orders a second", charts.rates),
        ("group-p99.svg", "What one order in a hundred waits at least (p99)", "milliseconds", charts.waits),
    ] {
        let more = if axis == "milliseconds" { "less" } else { "more" };
        let path = directory.join(name);
        let subtitle = format!("each dot is one round ({more} is better)");
        Bars { title: title.into(), subtitle, axis: axis.into(), from: 0.0, groups }.write(&path)?;
        report.say_where(&path);
    }
    Ok(())
}

/// A group for each comparison.
#[derive(Default)]
struct Charts {
    rates: Vec<Group>,
    waits: Vec<Group>,
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
    let group = |measured: &Rounds<4>, label: &dyn Fn(f64) -> String| {
        let bar = |(at, way): (usize, &Way)| Bar {
            name: way.name().into(),
            ours: at == 0,
            rounds: measured.values(at),
            median: measured.median(at),
            label: label(measured.median(at)),
        };
        Group { title: title.to_owned(), target: None, bars: WAYS.iter().enumerate().map(bar).collect() }
    };
    charts.rates.push(group(&rates, &grouped));
    charts.waits.push(group(&waits, &|wait| format!("{wait:.1}")));
    Ok(())
}
