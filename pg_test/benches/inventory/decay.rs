//! What is left of each way's speed while somebody keeps an old snapshot open: every UPDATE of the hot row leaves a version that nothing may clear away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use pg_test::Database;
use pg_test::bench::Options;
use pg_test::bench::chart::{Axis, Curve, Lines};
use pg_test::bench::demand::Demand;
use pg_test::bench::throughput::slice;
use pg_test::progress;

use crate::arms::{Buyer, Way};
use crate::fresh_number;

/// The curves, each as a share of that way's own speed before the snapshot, and a sentence for each.
pub async fn measure(database: &Database, crowd: usize, options: &Options) -> Result<(Lines, Vec<String>)> {
    let length = Duration::from_secs(options.pick(60, 2));
    let step = length / options.pick(30, 2);
    let ways = [(Way::Ours(50), 1), (Way::Sets(50), 1), (Way::ForUpdate(Duration::ZERO), crowd), (Way::Atomic, crowd)];
    let (mut curves, mut notes) = (Vec::new(), Vec::new());
    for (way, sessions) in ways {
        let orders = way.orders() as f64;
        let mut buyers = Vec::new();
        for _ in 0..sessions {
            buyers.push(Arc::new(Buyer::new(database, way, Demand::Hot, fresh_number()).await?));
        }
        // Also clears away what the way before it has left.
        database.admin("VACUUM hot; VACUUM by_hand; CHECKPOINT")?;
        slice(&buyers, step).await?;
        let fresh = slice(&buyers, step * 2).await? * orders;
        let reader = database.try_connect("owner").await?;
        reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM hot").await?;
        let begun = Instant::now();
        let mut points = vec![(0.0, 100.0)];
        let mut speed = fresh;
        while begun.elapsed() < length {
            speed = slice(&buyers, step).await? * orders;
            points.push((begun.elapsed().as_secs_f64(), 100.0 * speed / fresh));
        }
        reader.batch_execute("ROLLBACK").await?;
        let name = match sessions {
            1 => format!("{}, batches of {orders}", way.name()),
            _ => format!("{}, {sessions} sessions", way.name()),
        };
        let note = format!(
            "Beside a snapshot of {} s: {name}: {fresh:.0} orders a second before it, {speed:.0} at its end.",
            length.as_secs()
        );
        progress::say(format!("inventory: {note}"));
        notes.push(note);
        curves.push(Curve { name, points });
    }
    let lines = Lines {
        title: "A hot row beside an old snapshot".into(),
        subtitle: "each way's orders a second, by what they were before the snapshot".into(),
        across: Axis::even("seconds since the snapshot was taken"),
        up: Axis::even("per cent"),
        limit: Some((100.0, "before the snapshot".into())),
        curves,
    };
    Ok((lines, notes))
}
