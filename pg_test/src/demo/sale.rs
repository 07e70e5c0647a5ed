//! Scene: a sale of one item to more customers than there are pieces, over many connections at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_test::Database;
use tokio::task::JoinSet;

use super::Tour;
use super::paint::number;
use super::progress;
use super::session::Session;
use super::story::duration;

const PIECES: u64 = 10_000;
const CUSTOMERS: u64 = 20_000;
const CONNECTIONS: u64 = 200;
/// How long the sale without Bulkhead is watched.
const WATCHED: Duration = Duration::from_secs(3);

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, database, owner, .. } = tour;
    story.scene("One item, everybody wants it");
    story.say(&format!(
        "A sale: {} pieces of one item, {} customers, {CONNECTIONS} connections. First as it is usually done, an order at a time. Each has to wait for the row until the one \
         before it has committed:",
        number(PIECES),
        number(CUSTOMERS)
    ));
    owner.rows(&include_str!("data/sale.sql").replace(":pieces", &PIECES.to_string())).await?;
    story.statement(
        "app",
        "BEGIN;\nSELECT pieces FROM sale_by_hand WHERE sku = 'anchor' FOR UPDATE;\nUPDATE sale_by_hand SET pieces = pieces - 1 WHERE sku = 'anchor';\n\
         INSERT INTO sold_by_hand VALUES ($1);\nCOMMIT",
    );
    let by_hand = progress::during(one_by_one(database), || "customers queue for one row".into()).await?;
    let slow = by_hand as f64 / WATCHED.as_secs_f64();
    story.output(&format!(
        "{} customers were served in {}: {} a second",
        number(by_hand),
        duration(WATCHED),
        number(slow as u64)
    ));
    story.say("Now the same crowd queues its orders, and a drain decides them in batches:");
    story.statement("app", "SELECT bulkhead.enqueue_decrement('sale', $1, 'anchor', 1)");
    story.statement("postgres", "CALL bulkhead.drain_inventory('sale')");
    let start = Instant::now();
    let queued = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&queued);
    let text = move || format!("{} of {} orders are queued", number(shown.load(Ordering::Relaxed)), number(CUSTOMERS));
    progress::during(in_batches(database, queued), text).await?;
    let time = start.elapsed();
    let rate = CUSTOMERS as f64 / time.as_secs_f64();
    let admin = Session::open(database, "postgres").await?;
    let ask = "BEGIN; SELECT bulkhead.begin_bypass('the tour counts'); SELECT count(*) FILTER (WHERE verdict = 'a'), count(*) FILTER (WHERE verdict = 'i'), count(DISTINCT digest)
                 FROM bulkhead.order_verdict WHERE relation = 'sale'::regclass; COMMIT";
    let rows = admin.rows(ask).await?;
    let told = rows.into_iter().find(|row| row.len() == 3).context("no verdicts were counted")?;
    let left = owner.number("SELECT pieces FROM sale").await?;
    story.table(
        &["orders a second", "time", "accepted", "told that there is no more", "pieces left"],
        &[vec![number(rate as u64), duration(time), told[0].clone(), told[1].clone(), number(left)]],
    );
    let (sold, refused) = (PIECES.to_string(), (CUSTOMERS - PIECES).to_string());
    story.claim(
        told == [sold.clone(), refused, CUSTOMERS.to_string()] && left == 0,
        &format!("Sold exactly {}, and each of the {} customers has one verdict", number(PIECES), number(CUSTOMERS)),
        &format!("{told:?}, and {left} pieces are left"),
    )?;
    story.check(
        rate > slow,
        &format!("In batches it went {:.0} times as fast", rate / slow.max(1.0)),
        &format!("{rate:.0} a second in batches, {slow:.0} by hand"),
    )
}

/// Customers that were served while it was watched.
async fn one_by_one(database: &Database) -> Result<u64> {
    let deadline = Instant::now() + WATCHED;
    let mut sessions = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = database.try_connect("app").await?;
        sessions.spawn(async move {
            let lock = client.prepare("SELECT pieces FROM sale_by_hand WHERE sku = 'anchor' FOR UPDATE").await?;
            let take = client.prepare("UPDATE sale_by_hand SET pieces = pieces - 1 WHERE sku = 'anchor'").await?;
            let keep = client.prepare("INSERT INTO sold_by_hand VALUES ($1)").await?;
            let mut served = 0_u64;
            while Instant::now() < deadline && served < CUSTOMERS / CONNECTIONS {
                client.batch_execute("BEGIN").await?;
                let left: i32 = client.query_one(&lock, &[]).await?.get(0);
                if left > 0 {
                    client.execute(&take, &[]).await?;
                    client.execute(&keep, &[&format!("customer {connection} {served}")]).await?;
                }
                client.batch_execute("COMMIT").await?;
                served += 1;
            }
            anyhow::Ok(served)
        });
    }
    let mut served = 0;
    while let Some(session) = sessions.join_next().await {
        served += session??;
    }
    Ok(served)
}

async fn in_batches(database: &Database, queued: Arc<AtomicU64>) -> Result<()> {
    let mut sessions = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = database.try_connect("app").await?;
        let queued = Arc::clone(&queued);
        sessions.spawn(async move {
            let queue = client.prepare("SELECT bulkhead.enqueue_decrement('sale', $1, 'anchor', 1)").await?;
            for customer in 0..CUSTOMERS / CONNECTIONS {
                client.query_one(&queue, &[&format!("customer {connection} {customer}")]).await?;
                queued.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let drainer = database.try_connect("postgres").await?;
    let all_queued = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&all_queued);
    let drain = tokio::spawn(async move {
        while !done.load(Ordering::Relaxed) {
            drainer.batch_execute("CALL bulkhead.drain_inventory('sale')").await?;
        }
        drainer.batch_execute("CALL bulkhead.drain_inventory('sale')").await
    });
    while let Some(session) = sessions.join_next().await {
        session??;
    }
    ensure!(queued.load(Ordering::Relaxed) == CUSTOMERS, "not all orders were queued");
    all_queued.store(true, Ordering::Relaxed);
    drain.await.context("the drain")??;
    Ok(())
}
