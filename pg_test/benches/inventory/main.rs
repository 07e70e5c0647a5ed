//! inventory: orders a second, each with a verdict in the ledger, durable, beside a ledger of five million verdicts over eight partitions.
//!
//! Batches of 50 and 500 by one session, against the best batch that can be written by hand with the same ledger and replay, a loop, and the bare
//! INSERT of as many verdicts. Then one order at a time from 200 sessions, as it is done without batches: SELECT … FOR UPDATE in statements of the client's (and with a
//! millisecond of the client's between them), one atomic UPDATE, and a row for each unit with SKIP LOCKED. Then a thousand items, uniformly and by Zipf's law. Then the
//! queue, from 200 sessions, with a drain. At last what an old snapshot does to each, and how large the queue becomes.

mod arms;
mod bloat;
mod decay;
mod queue;
mod tables;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use pg_test::bench::chart::{Bar, Bars, Group};
use pg_test::bench::demand::Demand;
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::throughput::slice;
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker, there_and_back};
use pg_test::{Database, Preload, progress};

use arms::{Buyer, Way};

fn main() -> ExitCode {
    bench::main("inventory", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    // The queue is drained by the session that is measured, and not by a worker as well.
    let settings = [("max_connections", "720"), ("bulkhead.drain_databases", "")];
    let cluster = server::start_with(Preload::Shared, &settings)?;
    let conditions = Conditions::of(&cluster, options);
    let mut report = Report::new("inventory", "what an order costs, and what a hot row allows", conditions);
    report.notes = vec![
        "Figures are orders a second, each with a row in the ledger. synchronous_commit = on.".into(),
        "By hand: the table by_hand and the ledger of the same columns, partitions and primary keys; digests by md5."
            .into(),
        "Ours is measured after its session has read the closed partitions' indexes once.".into(),
    ];
    let database = cluster.database("inventory")?;
    progress::stage("made the tables and their verdicts", || tables::make(&database, options))?;
    let mut groups = Vec::new();
    let directory = bench::directory(options)?;
    let measured = all(&database, options, &directory, &mut report, &mut groups).await;
    // Also what was measured before a fault.
    report.publish(&directory)?;
    measured?;
    let chart = directory.join("inventory.svg");
    let bars = Bars {
        title: "Orders a second, durable, each with its verdict in the ledger".into(),
        subtitle: "each dot is one round (more is better)".into(),
        axis: "orders a second".into(),
        from: 0.0,
        groups,
    };
    bars.write(&chart)?;
    report.publish_chart(&chart)?;
    Ok(())
}

async fn all(
    database: &Database,
    options: &Options,
    directory: &Path,
    report: &mut Report,
    groups: &mut Vec<Group>,
) -> Result<()> {
    let crowd = options.pick(200, 8);
    let (at_once, later) = (Duration::ZERO, Duration::from_millis(1));
    let batch = |of| (Way::Ours(of), 1);
    let of_500 = [batch(500), (Way::Bare(500), 1), (Way::Sets(500), 1), (Way::Loop(500), 1)];
    let targets = [Some(Target::AtLeast(0.6)), None, None];
    groups.push(compare(database, "batches of 500, one session", of_500, targets, Demand::Hot, options, report).await?);
    let of_50 = [batch(50), (Way::Sets(50), 1), (Way::Loop(50), 1), (Way::Bare(50), 1)];
    let targets = [Some(Target::AtLeast(0.9)), None, None];
    groups.push(compare(database, "batches of 50, one session", of_50, targets, Demand::Hot, options, report).await?);
    let one_by_one = [batch(50), (Way::ForUpdate(at_once), crowd), (Way::Atomic, crowd), (Way::SkipLocked, crowd)];
    let targets = [Some(Target::AtLeast(100.0)), Some(Target::AtLeast(20.0)), None];
    let title = format!("batches of 50 against {crowd} sessions with an order each");
    groups.push(compare(database, &title, one_by_one, targets, Demand::Hot, options, report).await?);
    let waiting = [batch(50), (Way::ForUpdate(later), crowd)];
    compare(database, &format!("{title}, a millisecond at the client"), waiting, [None], Demand::Hot, options, report)
        .await?;
    for (demand, name) in [(Demand::Uniform, "uniformly"), (Demand::Zipf, "by Zipf's law")] {
        let title = format!("1,000 items, {name}, batches of 50 by 4 sessions");
        let arms = [(Way::Ours(50), 4), (Way::Atomic, crowd)];
        groups.push(compare(database, &title, arms, [Some(Target::AtLeast(1.0))], demand, options, report).await?);
    }
    queue::measure(database, crowd, options, report).await?;
    let (lines, notes) = decay::measure(database, crowd, options).await?;
    report.notes.extend(notes);
    let chart = directory.join("inventory-snapshot.svg");
    lines.write(&chart)?;
    report.publish_chart(&chart)?;
    report.notes.extend(bloat::measure(database, options).await?);
    Ok(())
}

/// The first way against each of the others, in turns.
async fn compare<const N: usize, const M: usize>(
    database: &Database,
    title: &str,
    arms: [(Way, usize); N],
    targets: [Option<Target>; M],
    demand: Demand,
    options: &Options,
    report: &mut Report,
) -> Result<Group> {
    let length = Duration::from_millis(options.pick(1_500, 150));
    let rounds = options.pick(6, 1);
    let mut ready = Vec::new();
    for (way, sessions) in arms {
        let mut buyers = Vec::new();
        for _ in 0..sessions {
            buyers.push(Arc::new(Buyer::new(database, way, demand, fresh_number()).await?));
        }
        // Until the closed partitions are known.
        let warm = if matches!(way, Way::Ours(_)) { length * options.pick(6, 1) } else { length / 2 };
        slice(&buyers, warm).await?;
        ready.push(buyers);
    }
    let mut ticker = Ticker::new(title.to_owned(), rounds);
    let mut measured = Rounds::<N>::default();
    while measured.count() < rounds {
        for which in there_and_back(N) {
            let orders = arms[which].0.orders() as f64;
            measured.add(which, slice(&ready[which], length).await? * orders);
        }
        measured.end_round();
        ticker.tick(measured.count());
    }
    for (at, (way, _)) in arms.iter().enumerate().skip(1) {
        report.lines.push(Line {
            what: title.to_owned(),
            ours: Figure(measured.median(0), "orders a second"),
            rival: way.name(),
            rival_figure: Figure(measured.median(at), "orders a second"),
            results: measured.ratios(0, at),
            unit: Line::TIMES,
            target: targets.get(at - 1).copied().flatten(),
        });
    }
    let bar = |(at, (way, _)): (usize, &(Way, usize))| Bar {
        name: way.name(),
        ours: at == 0,
        rounds: measured.values(at),
        median: measured.median(at),
        label: grouped(measured.median(at)),
    };
    Ok(Group { title: title.to_owned(), target: None, bars: arms.iter().enumerate().map(bar).collect() })
}

/// A number that no other session has.
pub fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
