//! idempotency: what a key costs, and what its expiry costs.
//!
//! Claim and complete, durable, of 1, 8 and 32 clients: as two transactions, and both in one. The rivals are what can be written by hand with
//! `INSERT ... ON CONFLICT` and `UPDATE` by prepared statements: one unpartitioned table, whose old keys somebody has to DELETE; and the same table
//! naively partitioned by day, whose unique index has to contain the day, so that a retry after midnight runs twice. Once with random keys
//! and a window of one day, once with UUIDv7 keys and 32 partitions inside the window. Then the replay of a finished key beside `SELECT 1`;
//! the time of a claim beside five million other keys; and the expiry of five million keys, beside DELETE and VACUUM.
//!
//! The library comes by `session_preload_libraries` of a role: the rivals' sessions run on the same server without it. The tenant is set once
//! a session; by hand it is a parameter.

mod claims;
mod expiry;
mod keys;
mod preloaded;
mod replay;
mod tables;

use std::process::ExitCode;

use anyhow::Result;
use pg_test::bench::chart::{Bars, Group};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::{self, Options, Report};
use pg_test::{Cluster, Preload, progress};

use tables::Shape;

fn main() -> ExitCode {
    bench::main("idempotency", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let cluster = server::start(Preload::None)?;
    let conditions = Conditions::of(&cluster, options);
    let mut report = Report::new("idempotency", "what a key costs, and its expiry", conditions);
    report.notes = vec![
        "By hand: INSERT ... ON CONFLICT (tenant, key) DO NOTHING, then UPDATE ... WHERE; prepared, in sessions without the library.".into(),
        "Naively partitioned: the day is part of the key, so that a retry after midnight runs twice; the UPDATE does not know the day.".into(),
        "synchronous_commit = on. No checkpoint falls into a measurement but where it is said.".into(),
    ];

    let mut groups = Vec::new();
    let measured = all(&cluster, options, &mut report, &mut groups).await;
    // Also what was measured before a fault.
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    measured?;
    let chart = directory.join("idempotency.svg");
    let bars = Bars {
        title: "Claim and complete, durable: our transactions a second by the rival's".into(),
        subtitle: "each dot is one round (more is better)".into(),
        axis: "ours as a multiple of the rival's".into(),
        from: 0.0,
        groups,
    };
    bars.write(&chart)?;
    report.publish_chart(&chart)?;
    Ok(())
}

async fn all(cluster: &Cluster, options: &Options, report: &mut Report, groups: &mut Vec<Group>) -> Result<()> {
    let random = cluster.database("claims")?;
    progress::stage("made the tables, a window of a day", || tables::make(&random, &Shape::DAY, options))?;
    groups.extend(claims::measure(&random, &Shape::DAY, options, report).await?);
    replay::measure(&random, options, report).await?;
    drop(random);

    let dated = cluster.database("dated")?;
    progress::stage("made the tables, 32 partitions in the window", || tables::make(&dated, &Shape::MONTH, options))?;
    groups.extend(claims::measure(&dated, &Shape::MONTH, options, report).await?);
    drop(dated);

    let rows = options.pick(5_000_000, 50_000);
    let full = preloaded::measure(cluster, rows, options, report).await?;
    expiry::measure(&full, rows, options, report).await
}
