//! The end of a day's keys: maintain() beside DELETE and VACUUM.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::stats::median;
use pg_test::bench::{Line, Options, Report, Target, Ticker};
use pg_test::{Client, Database};

use crate::tables::{self, COLUMNS};

/// So many days ago the keys were claimed that expire here.
const DAY: u32 = 5;

/// In a database that has as many keys that do not expire.
pub async fn measure(database: &Database, rows: u32, options: &Options, report: &mut Report) -> Result<()> {
    let mut config = database.config("postgres");
    config.options("-c session_preload_libraries=bulkhead");
    let admin = Client::connect(&config).await?;
    let plain = database.try_connect("postgres").await?;
    let rounds = options.pick(3, 1);
    // Once: the same work writes the same, and it takes long.
    let (by_hand, dead) = delete(&plain, rows).await?;
    let mut ticker = Ticker::new(format!("expiry of {} keys", grouped(f64::from(rows))), rounds);
    let mut spent = Vec::new();
    while spent.len() < rounds {
        spent.push(maintain(database, &admin, rows).await?);
        ticker.tick(spent.len());
    }
    let (seconds, wal): (Vec<f64>, Vec<f64>) = spent.iter().map(|spent| (spent.seconds, spent.wal)).unzip();
    let keys = grouped(f64::from(rows));
    let rival = "DELETE and VACUUM, by hand";
    report.lines.push(Line {
        what: format!("expiry of {keys} keys by maintain(): WAL"),
        ours: Figure(median(&wal) / 1024.0, "kB"),
        rival: rival.into(),
        rival_figure: Figure(by_hand.wal / 1024.0, "kB"),
        results: wal.iter().map(|wal| by_hand.wal / wal).collect(),
        unit: "times less",
        target: Some(Target::AtLeast(100.0)),
    });
    report.lines.push(Line {
        what: format!("expiry of {keys} keys by maintain(): time"),
        ours: Figure(median(&seconds), "s"),
        rival: rival.into(),
        rival_figure: Figure(by_hand.seconds, "s"),
        results: seconds,
        unit: "s",
        target: Some(Target::AtMost(1.0)),
    });
    // The rest of the time the commits take: the file system frees the partition's files.
    let work: Vec<f64> = spent.iter().map(|spent| spent.work * 1e3).collect();
    report.lines.push(Line {
        what: format!("expiry of {keys} keys by maintain(): time without freeing the files"),
        ours: Figure(median(&work), "ms"),
        rival: rival.into(),
        rival_figure: Figure(by_hand.seconds * 1e3, "ms"),
        results: work,
        unit: "ms",
        target: None,
    });
    report.notes.push(format!(
        "Expiry: each side has as many keys that stay; a checkpoint comes before. Dead tuples: none of ours, {dead} of the DELETE until its VACUUM."
    ));
    Ok(())
}

/// What it took.
struct Spent {
    seconds: f64,
    /// Bytes.
    wal: f64,
    /// Seconds of work before the commits, for maintain().
    work: f64,
}

async fn spend(session: &Client, statements: &[&str]) -> Result<Spent> {
    session.batch_execute("CHECKPOINT").await?;
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
    let before: f64 = session.query_one(position, &[]).await?.try_get(0)?;
    let start = Instant::now();
    for statement in statements {
        session.batch_execute(statement).await.with_context(|| (*statement).to_string())?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let after: f64 = session.query_one(position, &[]).await?.try_get(0)?;
    Ok(Spent { seconds, wal: after - before, work: 0.0 })
}

async fn maintain(database: &Database, admin: &Client, rows: u32) -> Result<Spent> {
    let at = format!(
        "date_trunc('day', now(), 'UTC') - interval '{DAY} days' + interval '1 day' * (n::float8 / {rows} * 0.99)"
    );
    tables::make_day(database, DAY, &format!("generate_series(1, {rows}) AS n"), &at)?;
    let leaf = format!("idempotency_key_{DAY}_ago");
    let there = format!("SELECT to_regclass('bulkhead.{leaf}') IS NOT NULL");
    let spent = spend(admin, &["CALL bulkhead.maintain()"]).await?;
    ensure!(database.admin(&there)?.trim() == "f", "{leaf} was not dropped");
    let made = "SELECT count(*) FROM bulkhead.maintenance_log WHERE NOT ok";
    ensure!(database.admin(made)?.trim() == "0", "maintain() could not do all that it should");
    let work = "SELECT sum(extract(epoch FROM lock_wait + duration)) FROM bulkhead.maintenance_log WHERE action IN ('empty', 'drop')
                   AND at > now() - interval '10 seconds'";
    Ok(Spent { work: database.admin(work)?.trim().parse()?, ..spent })
}

/// Also the dead tuples before the VACUUM.
async fn delete(session: &Client, rows: u32) -> Result<(Spent, String)> {
    let columns: Vec<&str> = COLUMNS.split(',').filter_map(|column| column.split_whitespace().next()).collect();
    session
        .batch_execute(&format!(
            "INSERT INTO by_hand ({})
             SELECT ('6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(n % 1000), 12, '0'))::uuid, overlay(md5('old ' || n) PLACING '4' FROM 13)::uuid::text,
                    encode(sha256(int8send(n)), 'hex'), 'f', 1, at + interval '1 minute', 201, '{}', at, at
               FROM (SELECT n, now() - interval '5 days' AS at FROM generate_series(1, {rows}::bigint) AS n) AS rows",
            columns.join(", "),
            tables::RESPONSE
        ))
        .await?;
    let expire = "DELETE FROM by_hand WHERE claimed_at < now() - interval '48 hours'";
    let deleted = spend(session, &[expire]).await?;
    // The server's count of them comes with a delay.
    session.batch_execute("SELECT pg_stat_clear_snapshot(); SELECT pg_sleep(1.5)").await?;
    let dead = session.query_one("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'by_hand'", &[]).await?;
    let dead: i64 = dead.try_get(0)?;
    let vacuumed = spend(session, &["VACUUM by_hand"]).await?;
    let both = Spent { seconds: deleted.seconds + vacuumed.seconds, wal: deleted.wal + vacuumed.wal, work: 0.0 };
    Ok((both, grouped(dead as f64)))
}
