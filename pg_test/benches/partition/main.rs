//! partition: what inserts notice of maintenance.
//!
//! 400 inserts a second into a table with a partition a minute, each sent when its time has come, whether or not the one before has been answered; a
//! session reads the parent for 5 seconds, pauses for one, and again; and meanwhile partitions are made ahead and the oldest
//! dropped: by nobody, by maintain(), by plain `CREATE TABLE ... PARTITION OF` and `DROP TABLE`, and by pg_partman where its
//! package can be had. Each has a new table in each round; the slowest insert counts, from when it was due to its answer.

mod load;
mod sides;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use pg_test::bench::chart::{Latency, Panel};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::stats::percentile;
use pg_test::bench::{self, Line, Options, Report, Target, Ticker};
use pg_test::provision::{self, For};
use pg_test::{Preload, progress};

use load::Seen;
use sides::Side;

/// Milliseconds that the slowest insert may take beyond that without maintenance.
const LIMIT: f64 = 100.0;

fn main() -> ExitCode {
    bench::main("partition", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let mut sides = vec![Side::Nobody, Side::Maintain, Side::Plain];
    let partman = provision::pg_partman(&provision::provision(For::Demo)?);
    if partman {
        sides.push(Side::Partman);
    }
    let cluster = server::start(Preload::Shared)?;
    let mut report = Report::new("partition", "what inserts notice of maintenance", Conditions::of(&cluster, options));
    let database = cluster.database("stall")?;
    if partman {
        database.admin("CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")?;
    } else {
        progress::say("skipped pg_partman: it is not installed, and could not be");
        report.notes.push("pg_partman: skipped, its package is not to be had.".into());
    }

    let rounds = options.pick(3, 1);
    let length = Duration::from_secs(options.pick(24, 8));
    let mut ticker = Ticker::new(format!("inserts under maintenance, {} s each", length.as_secs()), rounds);
    let mut seen: Vec<Vec<Seen>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..sides.len() {
            // Another one begins each round.
            let which = (turn + round) % sides.len();
            let table = format!("events_{round}_{which}");
            sides[which].make(&database, &table).await?;
            seen[which].push(load::run(&database, sides[which], &table, length).await?);
            sides[which].forget(&database, &table)?;
            database.admin(&format!("DROP TABLE {table}"))?;
        }
        ticker.tick(round + 1);
    }
    judge(&sides, &seen, &mut report);
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    let path = directory.join("partition-stall.svg");
    chart(&sides, &seen).write(&path)?;
    report.publish_chart(&path)?;
    Ok(())
}

/// The slowest insert of all rounds.
fn worst(rounds: &[Seen]) -> f64 {
    rounds.iter().flat_map(|seen| &seen.inserts).map(|insert| insert.1).fold(0.0, f64::max)
}

fn judge(sides: &[Side], seen: &[Vec<Seen>], report: &mut Report) {
    let (control, ours) = (worst(&seen[0]), worst(&seen[1]));
    let what = format!("the slowest insert during {}", Side::Maintain.name());
    report.lines.push(Line {
        what: what.clone(),
        ours: Figure(ours, "ms"),
        rival: Side::Nobody.name().into(),
        rival_figure: Figure(control, "ms"),
        results: vec![ours - control],
        unit: "ms more",
        target: Some(Target::AtMost(LIMIT)),
    });
    for (side, rounds) in sides.iter().zip(seen).skip(2) {
        report.lines.push(Line {
            what: what.clone(),
            ours: Figure(ours, "ms"),
            rival: side.name().into(),
            rival_figure: Figure(worst(rounds), "ms"),
            results: vec![ours / worst(rounds)],
            unit: Line::TIMES,
            target: None,
        });
    }
    for (side, rounds) in sides.iter().zip(seen) {
        let times: Vec<f64> = rounds.iter().flat_map(|seen| &seen.inserts).map(|insert| insert.1).collect();
        let slow = times.iter().filter(|time| **time > LIMIT).count();
        let (made, dropped) =
            rounds.iter().fold((0, 0), |(made, dropped), seen| (made + seen.made, dropped + seen.dropped));
        report.notes.push(format!(
            "{}: {} inserts, half of them in {:.2} ms, 99 % in {:.2} ms, {} slower than {LIMIT} ms; {made} partitions made, {dropped} dropped.",
            side.name(),
            grouped(times.len() as f64),
            percentile(&times, 50.0),
            percentile(&times, 99.0),
            grouped(slow as f64),
        ));
    }
}

/// Each side's worst round.
fn chart(sides: &[Side], seen: &[Vec<Seen>]) -> Latency {
    let panels = sides.iter().zip(seen).filter_map(|(side, rounds)| {
        let of = |seen: &&Seen| worst(std::slice::from_ref(*seen));
        let shown = rounds.iter().max_by(|one, other| of(one).total_cmp(&of(other)))?;
        Some(Panel {
            name: format!("{}: slowest {} ms", side.name(), grouped(of(&shown))),
            ours: *side == Side::Maintain,
            points: shown.inserts.clone(),
            bands: shown.reads.clone(),
        })
    });
    Latency {
        title: "Inserts under partition maintenance: 400 a second, beside a reader of 5 s".into(),
        subtitle: "time of an insert in ms from when it was due to its answer, the slowest of each 50 ms; grey: the reader is at work".into(),
        limit: (worst(&seen[0]) + LIMIT, "100 ms above the slowest without maintenance".into()),
        panels: panels.collect(),
    }
}
