//! Ten tenants of which one floods, and how soon a queued order is decided.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pg_test::Database;
use pg_test::bench::demand::Demand;
use pg_test::bench::report::Figure;
use pg_test::bench::stats::percentile;
use pg_test::bench::throughput::{slice, timed_slice};
use pg_test::bench::{Line, Options, Report, Rounds, Target, Ticker};

use crate::arms::{Buyer, Way};
use crate::tables::TENANTS;

/// Sessions of each quiet tenant, and of the one that floods.
const QUIET: usize = 2;
const LOUD: usize = 100;

/// The quiet tenants' p99 while another floods, against theirs alone.
pub async fn flood(database: &Database, options: &Options, report: &mut Report) -> Result<()> {
    let length = Duration::from_millis(options.pick(1_500, 150));
    let rounds = options.pick(5, 1);
    let sessions = async |tenant: u32, count: usize| -> Result<Vec<Arc<Buyer>>> {
        let mut buyers = Vec::new();
        for _ in 0..count {
            buyers.push(Arc::new(Buyer::new(database, Way::Tenant(tenant), Demand::Hot).await?));
        }
        Ok(buyers)
    };
    let mut quiet = Vec::new();
    for tenant in 2..=TENANTS {
        quiet.extend(sessions(tenant, QUIET).await?);
    }
    let loud = sessions(1, options.pick(LOUD, 4)).await?;
    slice(&quiet, length / 2).await?;
    let mut ticker = Ticker::new(format!("{TENANTS} tenants, one floods"), rounds);
    let mut measured = Rounds::<2>::default();
    while measured.count() < rounds {
        measured.add(1, percentile(&timed_slice(&quiet, length).await?.1, 99.0));
        let flooding = tokio::spawn({
            let loud = loud.clone();
            async move { slice(&loud, length + Duration::from_millis(100)).await }
        });
        measured.add(0, percentile(&timed_slice(&quiet, length).await?.1, 99.0));
        flooding.await??;
        measured.end_round();
        ticker.tick(measured.count());
    }
    report.lines.push(Line {
        what: format!("{TENANTS} tenants, {QUIET} sessions each, and {LOUD} of one that floods: p99 of the others"),
        ours: Figure(measured.median(0), "ms"),
        rival: "without the flood".into(),
        rival_figure: Figure(measured.median(1), "ms"),
        results: measured.ratios(0, 1),
        unit: Line::TIMES,
        target: Some(Target::AtMost(3.0)),
    });
    Ok(())
}

/// From the end of enqueue_decrement() until order_verdicts() knows the order, asked for without a pause.
pub async fn queue(database: &Database, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.pick(200, 5);
    let app = database.try_connect("app").await?;
    let queue = app.prepare("SELECT bulkhead.enqueue_decrement('hot', $1, 'item 1', 1)").await?;
    let ask = app.prepare("SELECT verdict FROM bulkhead.order_verdicts('hot', $1)").await?;
    let (mut decided, mut asked) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let order = format!("queued {round}");
        app.query(&queue, &[&order]).await?;
        let start = Instant::now();
        while app.query(&ask, &[&order]).await?.is_empty() {
            ensure!(start.elapsed() < Duration::from_secs(5), "a queued order is not decided");
        }
        decided.push(start.elapsed().as_secs_f64() * 1_000.0);
        let start = Instant::now();
        app.query(&ask, &[&order]).await?;
        asked.push(start.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    report.lines.push(Line {
        what: "a queued order is decided: p99".into(),
        ours: Figure(percentile(&decided, 99.0), "ms"),
        rival: "asking for it once, p99".into(),
        rival_figure: Figure(percentile(&asked, 99.0), "ms"),
        results: vec![percentile(&decided, 50.0), percentile(&decided, 99.0)],
        unit: " ms",
        target: Some(Target::AtMost(5.0)),
    });
    Ok(())
}
