//! Scene: the same crowd, and each customer waits for the answer: group commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pg_test::Client;
use tokio::task::JoinSet;

use super::Tour;
use super::paint::number;
use super::progress;
use super::story::duration;

const PIECES: u64 = 5_000;
const CUSTOMERS: u64 = 10_000;
const CONNECTIONS: u64 = 200;

/// What the customers were told, and after how long.
#[derive(Default)]
struct Told {
    accepted: u64,
    refused: u64,
    waits: Vec<Duration>,
}

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, database, owner, .. } = tour;
    story.scene("Each wants the answer at once");
    story.say(&format!(
        "{} customers again, {} pieces, {CONNECTIONS} connections, and nobody wants to come back for the verdict. A worker in the database decides whoever waits, all together, and commits \
         once for all of them:",
        number(CUSTOMERS),
        number(PIECES)
    ));
    owner
        .rows(&format!(
            "CREATE TABLE sale_now (sku text PRIMARY KEY, pieces integer NOT NULL CHECK (pieces >= 0));
             INSERT INTO sale_now VALUES ('anchor', {PIECES});
             SELECT bulkhead.register_inventory('sale_now', 'sku', 'pieces');
             GRANT SELECT, UPDATE ON sale_now TO app"
        ))
        .await?;
    story.statement("app", "SELECT verdict, remaining FROM bulkhead.decrement_now('sale_now', $1, 'anchor', 1)");
    let served = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&served);
    let text = move || {
        format!("{} of {} customers have their answer", number(shown.load(Ordering::Relaxed)), number(CUSTOMERS))
    };
    let mut customers = Vec::new();
    for _ in 0..CONNECTIONS {
        customers.push(database.try_connect("app").await?);
    }
    let start = Instant::now();
    let mut told = progress::during(all_at_once(customers, served), text).await?;
    let time = start.elapsed();
    told.waits.sort_unstable();
    let waited = |share: usize| told.waits.get(told.waits.len() * share / 100).copied().unwrap_or_default();
    let left = owner.number("SELECT pieces FROM sale_now").await?;
    story.table(
        &[
            "orders a second",
            "half wait less than",
            "99 of 100 less than",
            "accepted",
            "told that there is no more",
            "pieces left",
        ],
        &[vec![
            number((CUSTOMERS as f64 / time.as_secs_f64()) as u64),
            duration(waited(50)),
            duration(waited(99)),
            number(told.accepted),
            number(told.refused),
            number(left),
        ]],
    );
    story.claim(
        told.accepted == PIECES && told.refused == CUSTOMERS - PIECES && left == 0,
        "Each customer has a durable verdict, and not one piece was sold twice",
        &format!("{} accepted, {} refused, {left} pieces left", told.accepted, told.refused),
    )
}

async fn all_at_once(customers: Vec<Client>, served: Arc<AtomicU64>) -> Result<Told> {
    let mut sessions = JoinSet::new();
    for (connection, client) in customers.into_iter().enumerate() {
        let served = Arc::clone(&served);
        sessions.spawn(async move {
            let buy = "SELECT verdict FROM bulkhead.decrement_now('sale_now', $1, 'anchor', 1, '60 s')";
            let buy = client.prepare(buy).await?;
            let mut told = Told::default();
            for customer in 0..CUSTOMERS / CONNECTIONS {
                let asked = Instant::now();
                let row = client.query_one(&buy, &[&format!("customer {connection} {customer}")]).await?;
                told.waits.push(asked.elapsed());
                match row.get(0) {
                    "accepted" => told.accepted += 1,
                    "insufficient" => told.refused += 1,
                    other => anyhow::bail!("customer {connection} {customer} was told {other}"),
                }
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(told)
        });
    }
    let mut all = Told::default();
    while let Some(session) = sessions.join_next().await {
        let told = session.context("a customer's session")??;
        all.accepted += told.accepted;
        all.refused += told.refused;
        all.waits.extend(told.waits);
    }
    Ok(all)
}
