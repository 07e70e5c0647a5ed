//! Scene: what the policy costs, against the one that teams write by hand. A quick look; `cargo bench` measures.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Tour;
use super::paint::number;
use super::progress;
use super::session::{Row, Session};
use super::story::duration;

/// The best of so many: what else the machine does can only make a run slower.
const ROUNDS: usize = 25;
const BAR: f64 = 40.0;

struct Scan {
    label: &'static str,
    table: &'static str,
    sql: String,
    best: Duration,
}

impl Scan {
    fn new(label: &'static str, table: &'static str, condition: &str) -> Self {
        let sql = format!("SELECT count(*), sum(total) FROM {table}{condition}");
        Self { label, table, sql, best: Duration::MAX }
    }

    async fn time(&mut self, app: &Session) -> Result<Vec<Row>> {
        let start = Instant::now();
        let rows = app.rows(&self.sql).await?;
        self.best = self.best.min(start.elapsed());
        Ok(rows)
    }
}

pub async fn play(tour: &mut Tour) -> Result<()> {
    let Tour { story, products, owner, app, .. } = tour;
    let me = &products.shop.me;
    story.scene("What it costs");
    let rows = owner.number("SELECT count(*) FROM orders_plain").await?;
    story.say(&format!(
        "Four copies of {} orders: the first has no policy, and the query names the tenant itself. A full scan of each, \
         so that every row has to be asked whose it is:",
        number(rows)
    ));
    owner.rows("SELECT bulkhead.protect('orders_bulkhead', 'organization_id')").await?;
    // Pages that a vacuum has marked are quicker to scan: all of them or none.
    let vacuum = owner.rows("VACUUM ANALYZE orders_plain, orders_by_hand, orders_by_subselect, orders_bulkhead");
    progress::during(vacuum, || "tidying the copies".into()).await?;
    let settings = format!(
        "SET enable_indexscan = off; SET enable_bitmapscan = off;\nSET max_parallel_workers_per_gather = 0;\n\
         SET app.tenant = '{0}';\nSET bulkhead.tenant_context = '{0}'",
        me.id
    );
    story.run(app, &settings).await?;
    let mut scans = [
        Scan::new("the tenant in the query", "orders_plain", &format!(" WHERE organization_id = '{}'", me.id)),
        Scan::new("Bulkhead's policy", "orders_bulkhead", ""),
        Scan::new("(SELECT current_setting…)", "orders_by_subselect", ""),
        Scan::new("current_setting(…)::uuid", "orders_by_hand", ""),
    ];
    for scan in &scans {
        story.statement(app.role(), &scan.sql);
        same_scan(app, scan).await?;
    }
    progress::during(measure(app, &mut scans), || "scanning".into()).await?;

    let longest = scans.iter().map(|scan| scan.best).max().unwrap_or_default();
    let [literal, bulkhead, _, by_hand] = scans.each_ref().map(|scan| scan.best.as_secs_f64());
    for scan in &scans {
        let share = scan.best.as_secs_f64() / longest.as_secs_f64();
        let bar = "#".repeat(((share * BAR).round() as usize).max(1));
        let ratio = scan.best.as_secs_f64() / literal;
        let time = duration(scan.best);
        story.output(&format!("{:<25} {time:>9}  {ratio:>5.1} ×  {}", scan.label, story.paint().sql(&bar)));
    }
    story.claim(
        bulkhead < by_hand,
        &format!(
            "Full scan: {:.1} × a plain WHERE with Bulkhead, {:.1} × with current_setting(…)::uuid",
            bulkhead / literal,
            by_hand / literal
        ),
        "the policy by hand was not slower",
    )?;
    story.aside(&format!(
        "The best of {ROUNDS} runs in turn, on this machine, now: a quick look. `cargo bench` measures properly."
    ));
    Ok(())
}

/// The comparison is fair only if all of them walk through the table alike.
async fn same_scan(app: &Session, scan: &Scan) -> Result<()> {
    let plan = app.rows(&format!("EXPLAIN (COSTS off) {}", scan.sql)).await?;
    let wanted = format!("Seq Scan on {}", scan.table);
    ensure!(plan.iter().flatten().any(|line| line.contains(&wanted)), "no sequential scan of {}: {plan:?}", scan.table);
    Ok(())
}

/// In turn, so that a busy moment of the machine meets all of them, and each time another one first, because what ran
/// before leaves the processor's caches warm or cold. The first round only warms up.
async fn measure(app: &Session, scans: &mut [Scan; 4]) -> Result<()> {
    for round in 0..=ROUNDS {
        let mut answers = Vec::new();
        for turn in 0..scans.len() {
            let scan = &mut scans[(round + turn) % 4];
            answers.push(scan.time(app).await?);
            if round == 0 {
                scan.best = Duration::MAX;
            }
        }
        let first = answers.first().context("nothing was scanned")?;
        ensure!(answers.iter().all(|answer| answer == first), "the scans do not agree: {answers:?}");
    }
    Ok(())
}
