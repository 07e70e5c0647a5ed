//! The time of a claim among millions of other keys, by that in an empty table.

use std::time::Instant;

use anyhow::{Result, ensure};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::stats::median;
use pg_test::bench::{Estimate, Line, Options, Report, Rounds, Target, Ticker, there_and_back};
use pg_test::{Cluster, Database, progress};

use crate::claims::{Claimer, Side};
use crate::keys::Kind;
use crate::tables::{self, COLUMNS, COPIED, ROLES};

/// Measures, and returns the database with the keys.
pub async fn measure(cluster: &Cluster, rows: u32, options: &Options, report: &mut Report) -> Result<Database> {
    let [empty, full] = [cluster.database("empty")?, cluster.database("full")?];
    progress::stage("made an empty table", || fill(&empty, 0))?;
    progress::stage("filled a table", || fill(&full, rows))?;
    check(&full).await?;
    let keys = grouped(f64::from(rows));
    for (after_checkpoint, durable) in [(false, false), (false, true), (true, true)] {
        let what = match (after_checkpoint, durable) {
            (false, false) => format!("p50 of a claim among {keys} keys, without its commit"),
            (false, true) => format!("p50 of a claim among {keys} keys, with its commit"),
            (true, _) => format!("p50 of a claim among {keys} keys, with its commit, just after a checkpoint"),
        };
        if after_checkpoint {
            full.admin("CHECKPOINT")?;
        }
        let measured = times(&empty, &full, options, durable, &what).await?;
        let rivals = [("the empty table", 0, Some(Target::AtMost(1.2))), ("by hand, among as many", 3, None)];
        for (rival, at, target) in rivals {
            report.lines.push(Line {
                what: what.clone(),
                ours: Figure(measured.median(1), "µs"),
                rival: rival.into(),
                rival_figure: Figure(measured.median(at), "µs"),
                results: measured.ratios(1, at),
                unit: Line::TIMES,
                target: target.filter(|_| !after_checkpoint),
            });
        }
        let Estimate { median, low, high } = measured.ratio(3, 2);
        report
            .notes
            .push(format!("{what}: by hand it is {median:.2} × ({low:.2} to {high:.2}) of that in an empty table."));
    }
    drop(empty);
    Ok(full)
}

/// So many finished keys of the last day, in our table and in one by hand.
fn fill(database: &Database, rows: u32) -> Result<()> {
    database.admin(ROLES)?;
    // One moment for all of them, and not quite a day, so that all stay inside the window.
    let now = database.admin("SELECT now()")?;
    let now = now.trim();
    let at = format!("timestamptz '{now}' - interval '23 hours 30 minutes' * (n::float8 / {})", rows.max(1));
    for day in [1, 0] {
        let source = format!(
            "(SELECT n FROM generate_series(1, {rows}) AS n
               WHERE (({at}) AT TIME ZONE 'UTC')::date = (timestamptz '{now}' AT TIME ZONE 'UTC')::date - {day}) AS numbers",
        );
        tables::make_day(database, day, &source, &at)?;
    }
    database.admin(&format!(
        "SET ROLE owner;
         CREATE TABLE by_hand ({COLUMNS}) WITH (fillfactor = 70);
         RESET ROLE;
         INSERT INTO by_hand {COPIED};
         ALTER TABLE by_hand ADD PRIMARY KEY (tenant, key);
         CALL bulkhead.maintain();
         VACUUM (FREEZE, ANALYZE);"
    ))?;
    // The indexes are in memory as those of a table in use are: after one reading the next would push them out again.
    for _ in 0..3 {
        database.admin(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0;
             SELECT count(digest) FROM bulkhead.idempotency_key WHERE digest > '00000000-0000-0000-0000-000000000000';
             SELECT count(tenant) FROM by_hand WHERE tenant > '00000000-0000-0000-0000-000000000000';",
        )?;
    }
    Ok(())
}

/// A loaded key has to be one that the functions find.
async fn check(full: &Database) -> Result<()> {
    for order in ["ASC", "DESC"] {
        let found = full.admin(&format!(
            "SELECT tenant, key FROM bulkhead.idempotency_key WHERE claimed_at > now() - interval '23 hours 40 minutes' ORDER BY claimed_at {order} LIMIT 1"
        ))?;
        let Some((tenant, key)) = found.trim().split_once('|') else { anyhow::bail!("no key: {found}") };
        let session = full.try_connect("app").await?;
        session.batch_execute(&format!("SET bulkhead.tenant_context = '{tenant}'")).await?;
        let row = session.query_one("SELECT state FROM bulkhead.idempotency_claim($1)", &[&key]).await?;
        let state: &str = row.try_get(0)?;
        ensure!(state == "replay", "the loaded key {key} is {state}");
    }
    Ok(())
}

/// Medians of each round in microseconds: ours empty and full, by hand empty and full.
async fn times(empty: &Database, full: &Database, options: &Options, durable: bool, title: &str) -> Result<Rounds<4>> {
    let rounds = options.pick(20, 2);
    let count = options.pick(150, 20);
    let arms = [(Side::Ours, empty), (Side::Ours, full), (Side::ByHand, empty), (Side::ByHand, full)];
    let mut sessions = Vec::new();
    for (side, database) in arms {
        let claimer = Claimer::new(database, side, Kind::Random, false, 7).await?.of_all_tenants();
        if !durable {
            claimer.session.batch_execute("SET synchronous_commit = off").await?;
        }
        measure_one(&claimer, durable, count).await?;
        sessions.push(claimer);
    }
    let mut ticker = Ticker::new(title, rounds);
    let mut measured = Rounds::<4>::default();
    while measured.count() < rounds {
        for which in there_and_back(4) {
            measured.add(which, measure_one(&sessions[which], durable, count).await?);
        }
        measured.end_round();
        ticker.tick(measured.count());
    }
    Ok(measured)
}

/// The median of some claims of new keys, in microseconds.
async fn measure_one(claimer: &Claimer, durable: bool, count: usize) -> Result<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let key = claimer.new_key();
        if !durable {
            claimer.session.batch_execute("BEGIN").await?;
        }
        let start = Instant::now();
        claimer.claim(&key).await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        if !durable {
            claimer.session.batch_execute("COMMIT").await?;
        }
    }
    Ok(median(&times))
}
