//! Scene: a payment that is sent twice, over midnight and over a crash, and a day of keys that expires.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_test::Database;

use super::Tour;
use super::paint::number;
use super::progress;
use super::session::{Row, Session};
use super::story::{Story, duration};

/// Until the day of the story ends.
const MIDNIGHT: f64 = 2.0;
/// Keys of the day that expires.
const KEYS: u64 = 200_000;

pub async fn play(tour: &mut Tour) -> Result<()> {
    tour.story.scene("Sent twice, paid once");
    let admin = Session::open(&tour.database, "postgres").await?;
    tour.owner.rows(include_str!("data/payments.sql")).await?;
    over_midnight(tour, &admin).await?;
    let admin = in_a_crash(tour, admin).await?;
    expired(&mut tour.story, &admin).await
}

/// A payment in one transaction: claim, work, answer.
fn pay(tenant: &str, key: &str) -> String {
    format!(
        "BEGIN;\nSELECT bulkhead.set_tenant('{tenant}');\nSELECT state FROM bulkhead.idempotency_claim('{key}');\n\
         INSERT INTO payments (amount) VALUES (990);\n\
         SELECT bulkhead.idempotency_complete('{key}', 201, '{{\"paid\": 990}}');\nCOMMIT"
    )
}

async fn over_midnight(tour: &mut Tour, admin: &Session) -> Result<()> {
    let Tour { story, products, app, owner, .. } = tour;
    let me = &products.shop.me;
    story.say(&format!(
        "{} pays, the answer gets lost on the way, and the browser sends the payment again. Both requests carry the same \
         idempotency key. Keys lie in a partition for each day, and here is the catch: it is just before midnight. (For \
         this table the day ends in {MIDNIGHT} seconds; the clock is the real one.)",
        me.name
    ));
    let midnight = admin.value(&include_str!("data/midnight.sql").replace(":seconds", &MIDNIGHT.to_string())).await?;
    story.statement(app.role(), &pay(&me.id, "pay-2471"));
    let rows = app.rows(&pay(&me.id, "pay-2471")).await?;
    ensure!(rows.iter().any(|row| row == &["started"]), "the key was not new: {rows:?}");
    let by_hand = "INSERT INTO keys_by_hand (key) VALUES ('pay-2471') ON CONFLICT DO NOTHING";
    let first = owner.changed(by_hand).await?;
    ensure!(
        admin.value(&format!("SELECT clock_timestamp() < '{midnight}'")).await? == "t",
        "this machine was too slow to pay before midnight"
    );
    let passed = format!(
        "SELECT pg_sleep(greatest(0, extract(epoch FROM '{midnight}'::timestamptz - clock_timestamp()) + 0.1))"
    );
    progress::during(admin.rows(&passed), || "waiting for midnight".into()).await?;
    story.say("It has struck twelve. The same again:");
    let retry = format!(
        "BEGIN;\nSELECT bulkhead.set_tenant('{}');\nSELECT state, status, response FROM bulkhead.idempotency_claim('pay-2471');\nCOMMIT",
        me.id
    );
    let rows = story.run(app, &retry).await?;
    let answer: Vec<Row> = rows.into_iter().filter(|row| row.len() == 3).collect();
    story.table(&["state", "status", "response"], &answer);
    let second = owner.changed(by_hand).await?;
    let payments = paid(app, &me.id).await?;
    story.claim(
        answer == [["replay", "201", "{\"paid\": 990}"]] && payments == 1,
        "A payment retried over midnight was made once: the retry was told the first one's answer",
        &format!("it was told {answer:?}, and there are {payments} payments"),
    )?;
    story.check(
        first == 1 && second == 1,
        "By hand, with a unique index in each day's partition, the retry counted as new: paid twice",
        "the table by hand was expected to take the key on both days",
    )
}

async fn paid(app: &Session, tenant: &str) -> Result<u64> {
    let sql = format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{tenant}'; SELECT count(*) FROM payments; COMMIT");
    app.number(&sql).await
}

async fn in_a_crash(tour: &mut Tour, admin: Session) -> Result<Session> {
    let Tour { story, database, products, .. } = tour;
    let me = &products.shop.me;
    story.say(
        "Now the server is killed with kill -9 while two payments are under way. One does everything in its transaction. The \
         other is charged at a card processor, so it has claimed its key with a lease and committed:",
    );
    // What it has to recover is little then.
    progress::during(admin.rows("CHECKPOINT"), || "waiting for the disk".into()).await?;
    let open = Session::open(database, "app").await?;
    let begun = pay(&me.id, "pay-2472").replace(";\nCOMMIT", "");
    story.run(&open, &begun).await?;
    let leased = format!(
        "BEGIN;\nSELECT bulkhead.set_tenant('{}');\nSELECT state FROM bulkhead.idempotency_claim('card-17', NULL, '4 seconds');\nCOMMIT",
        me.id
    );
    story.run(&tour.app, &leased).await?;
    let claimed = Instant::now();
    let victim = open.value("SELECT pg_backend_pid()").await?;
    story.output(&story.paint().dim(&format!("$ kill -9 {victim}")));
    let killed = std::process::Command::new("/bin/sh").args(["-c", "kill -9 \"$0\"", &victim]).status();
    ensure!(killed.context("running kill")?.success(), "process {victim} could not be killed");
    let back = progress::during(reconnected(database, &admin), || "the server recovers".into()).await?;
    let [admin, owner, app] = back;
    (tour.owner, tour.app) = (owner, app);
    let app = &tour.app;
    app.rows(&format!("SET bulkhead.tenant_context = '{}'", me.id)).await?;
    let state = async |key: &str| {
        app.rows(&format!("SELECT state, attempt FROM bulkhead.idempotency_claim('{key}')"))
            .await
            .map(|rows| rows.concat())
    };
    let (free, held) = (state("pay-2472").await?, state("card-17").await?);
    let lease_lives = claimed.elapsed() < Duration::from_secs(4);
    progress::during(tokio::time::sleep(Duration::from_secs(4).saturating_sub(claimed.elapsed())), || {
        "the lease runs out".into()
    })
    .await;
    let taken = if lease_lives { state("card-17").await? } else { held.clone() };
    let row = |key: &str, when: &str, told: &[String]| -> Row {
        [key, when].into_iter().map(str::to_owned).chain(told.iter().cloned()).collect()
    };
    let mut table = vec![row("pay-2472", "after the crash", &free)];
    if lease_lives {
        table.push(row("card-17", "after the crash", &held));
    }
    table.push(row("card-17", "when its lease has run out", &taken));
    story.say("A client that asks again is told:");
    story.table(&["key", "asked", "state", "attempt"], &table);
    let payments = paid(app, &me.id).await?;
    story.claim(
        free == ["started", "1"] && taken == ["started", "2"] && (!lease_lives || held == ["in_progress", "1"]) && payments == 1,
        "A crash in the middle: what had not committed is free at once, what was claimed is taken over when its lease ends",
        &format!("{free:?}, {held:?}, {taken:?}, {payments} payments"),
    )?;
    app.rows("RESET bulkhead.tenant_context").await?;
    Ok(admin)
}

/// Sessions of postgres, owner and app, once the server has ended the old ones and lets new ones in.
async fn reconnected(database: &Database, old: &Session) -> Result<[Session; 3]> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while old.value("SELECT 1").await.is_ok() {
        ensure!(Instant::now() < deadline, "the server did not notice");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    loop {
        match Session::open(database, "postgres").await {
            Ok(admin) => {
                return Ok([admin, Session::open(database, "owner").await?, Session::open(database, "app").await?]);
            }
            Err(error) => ensure!(Instant::now() < deadline, "the server did not come back: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn expired(story: &mut Story, admin: &Session) -> Result<()> {
    story.say(&format!(
        "Keys are kept for two days. Here is a day of last week with {} of them, and beside it the same rows in a table \
         without partitions:",
        number(KEYS)
    ));
    // What is to be made ahead is made before, so that the run below has nothing to do but to drop.
    admin.rows("CALL bulkhead.maintain()").await?;
    let filled = include_str!("data/last_week.sql").replace(":keys", &KEYS.to_string());
    progress::during(admin.rows(&filled), || "filling a day of last week".into()).await?;
    let (time, log) = measured(story, admin, "CALL bulkhead.maintain()").await?;
    let (deleting, deleted) =
        measured(story, admin, "DELETE FROM keys_in_one_table WHERE at < now() - interval '2 days'").await?;
    let dropped = admin
        .rows(
            "SELECT string_agg(action, ' ' ORDER BY id), extract(epoch FROM sum(duration)) * 1000 FROM bulkhead.maintenance_log
              WHERE partition = 'bulkhead.keys_of_last_week' AND ok",
        )
        .await?
        .concat();
    let [steps, within] = dropped.as_slice() else { anyhow::bail!("the log says nothing: {dropped:?}") };
    let within = Duration::from_secs_f64(within.parse::<f64>().context("a duration of the log")? / 1000.0);
    let line = |what: &str, time: Duration, bytes: u64, dead: u64| -> Row {
        vec![what.into(), duration(time), format!("{} kB", number(bytes.div_ceil(1024))), number(dead)]
    };
    story.table(
        &["how the day goes", "time", "write-ahead log", "rows left to vacuum"],
        &[line("maintain()", time, log, 0), line("DELETE", deleting, deleted, KEYS)],
    );
    story.claim(
        steps == "empty drop" && log * 10 < deleted && within < Duration::from_secs(1),
        &format!(
            "A day of {} keys was dropped in {}, with {} times less log than DELETE writes",
            number(KEYS),
            duration(within),
            deleted / log.max(1)
        ),
        &format!("steps {steps:?} in {within:?}, {log} bytes of log against {deleted}"),
    )
}

/// How long the statement took, and how much it wrote to the write-ahead log.
async fn measured(story: &Story, admin: &Session, sql: &str) -> Result<(Duration, u64)> {
    let written = "SELECT pg_current_wal_insert_lsn() - '0/0'";
    let before = admin.number(written).await?;
    let start = Instant::now();
    story.run(admin, sql).await?;
    let time = start.elapsed();
    Ok((time, admin.number(written).await? - before))
}
