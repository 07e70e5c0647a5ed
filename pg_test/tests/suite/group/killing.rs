//! Killed under load, again and again: what was answered is kept, nothing is taken twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};

use super::fixture::{A, B, buy, shops, stock, stored, try_to_buy, until, worker};
use crate::harness::{Nowhere, WithWorkers};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_worker_that_is_terminated_loses_nothing => 300,
        a_launcher_that_is_terminated_has_one_worker_a_database => 300,
        a_server_that_is_killed_keeps_what_it_promised => 600,
        a_caller_ends_with_the_postmaster,
    ]
}

const CALLERS: usize = 100;
const STOCK: i64 = 10_000_000;

/// What one caller was told: orders with their verdicts.
type Told = Vec<(String, String)>;

/// Orders until told to stop, each until it has a verdict; whatever breaks meanwhile, with the same id.
async fn order(db: Database, caller: usize, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::new();
    let mut client = None;
    for number in 0.. {
        let order = format!("{caller} {number}");
        let item = ["a", "b"][number % 2];
        loop {
            if stop.load(Ordering::Relaxed) {
                return told;
            }
            if client.is_none() {
                client = db.try_connect("app").await.ok();
            }
            let Some(session) = &client else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            match try_to_buy(session, "stock", &order, item, 1).await {
                // Not yet; the same order again.
                Ok(verdict) if verdict == "pending " => continue,
                Ok(verdict) => {
                    told.push((order, format!("{item} {verdict}")));
                    break;
                }
                Err(error) => {
                    assert!(error.is_closed() || is_of_the_end(&error), "{error:?}");
                    client = None;
                }
            }
        }
    }
    told
}

/// The server is going, or not quite there.
fn is_of_the_end(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none_or(|error| matches!(error.code().code(), "57P01" | "57P02" | "57P03" | "53300"))
}

async fn crowd(db: &Database, work: impl AsyncFnOnce()) -> Vec<Told> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(order(db.clone(), caller, Arc::clone(&stop)));
    }
    work().await;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await
}

async fn check(db: &Database, all: &[Told]) {
    // It may still be on its way back.
    until("the server is there", async || db.admin("SELECT 1").is_ok()).await;
    let balance = "SELECT s.sku, s.pieces + coalesce((SELECT sum(v.quantity) FROM bulkhead.order_verdict v WHERE v.item = s.sku AND v.verdict = 'a'), 0)
                     FROM stock s ORDER BY 1";
    let balance = db.admin(balance).unwrap();
    assert_eq!(balance.lines().collect::<Vec<_>>(), [format!("a|{STOCK}"), format!("b|{STOCK}"), format!("c|{STOCK}")]);
    assert_eq!(db.admin("SELECT count(*) - count(DISTINCT (digest, line)) FROM bulkhead.order_verdict").unwrap(), "0");
    let app = db.connect("app").await;
    // All of the last ones, and of the others enough.
    let told: Vec<_> = all.iter().flat_map(|told| told.iter().rev().take(10)).collect();
    for (order, verdict) in told {
        assert_eq!(stored(&app, "stock", order).await, [verdict.as_str()], "{order}");
    }
    let promised: usize = all.iter().map(Vec::len).sum();
    let verdicts: usize = db.admin("SELECT count(*) FROM bulkhead.order_verdict").unwrap().trim().parse().unwrap();
    assert!(promised > 1_000 && verdicts >= promised, "{promised} were promised, {verdicts} are there");
}

async fn a_worker_that_is_terminated_loses_nothing(db: WithWorkers) {
    stock(&db).await;
    db.admin(&format!("UPDATE stock SET pieces = {STOCK}")).unwrap();
    let all = crowd(&db, async || {
        let mut killed = Vec::new();
        while killed.len() < 20 {
            tokio::time::sleep(Duration::from_millis(60 + 11 * killed.len() as u64)).await;
            let pid = worker(&db);
            if !pid.is_empty() && !killed.contains(&pid) {
                db.admin(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
                killed.push(pid);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    check(&db, &all).await;
}

/// What an order is told is known before: by its tenant, and by what it asks for.
async fn ask_as(app: Client, caller: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let tenant = [A, B][caller % 2];
    app.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
    let mut wrong = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (item, quantity, told) = match (tenant == A, number % 3) {
            (_, 0) => ("nothing", 1, "unknown_item "),
            (true, _) => ("x", 1, "accepted "),
            (false, 1) => ("x", STOCK, "insufficient 3"),
            (false, _) => ("y", STOCK, "insufficient 7"),
        };
        let got = try_to_buy(&app, "shops", &format!("{caller} {number}"), item, quantity).await.unwrap();
        let sold = got.strip_prefix(told).and_then(|rest| rest.parse::<i64>().ok());
        if got != told && !sold.is_some_and(|left| told == "accepted " && left > 7) {
            wrong.push(format!("{told}: {got}"));
        }
    }
    wrong
}

/// The process of the launcher, which no view shows.
fn launcher(cluster: &Cluster) -> Option<String> {
    let file = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    let postmaster = file.lines().next().unwrap().trim().to_owned();
    let all = std::process::Command::new("ps").args(["-axo", "pid=,ppid=,command="]).output().unwrap();
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    let is_it =
        |line: &&str| line.contains("bulkhead launcher") && line.split_whitespace().nth(1) == Some(postmaster.as_str());
    Some(all.lines().find(is_it)?.split_whitespace().next()?.to_owned())
}

async fn a_launcher_that_is_terminated_has_one_worker_a_database(db: WithWorkers) {
    shops(&db).await;
    db.admin(&format!("UPDATE shops SET quantity = {STOCK} WHERE tenant_id = '{A}'")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(ask_as(db.connect("app").await, caller, Arc::clone(&stop)));
    }
    until("a worker", async || !worker(&db).is_empty()).await;
    let first = worker(&db);
    let mut killed: Vec<String> = Vec::new();
    while killed.len() < 8 {
        until("a launcher", async || launcher(&db.cluster).is_some_and(|pid| !killed.contains(&pid))).await;
        // It has had the time to look around.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(worker(&db), first);
        let pid = launcher(&db.cluster).unwrap();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        killed.push(pid);
    }
    stop.store(true, Ordering::Relaxed);
    let wrong = callers.join_all().await.concat();
    assert!(wrong.is_empty(), "{} verdicts are of others' orders: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    let balance = "SELECT s.quantity + (SELECT sum(v.quantity) FROM bulkhead.order_verdict v WHERE v.verdict = 'a') FROM shops s WHERE s.tenant_id = ";
    assert_eq!(db.admin(&format!("{balance}'{A}'")).unwrap(), STOCK.to_string());
    // The launcher that is there now knows of the worker's end.
    db.admin(&format!("SELECT pg_terminate_backend({first})")).unwrap();
    let app = db.connect("app").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
    assert!(buy(&app, "shops", "last", "x", 1).await.starts_with("accepted"));
    assert_ne!(worker(&db), first);
}

/// The worker's process, if the server answers.
async fn running(db: &Database) -> Option<String> {
    let sql = "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'bulkhead worker' AND datname = current_database()";
    Some(db.try_connect("postgres").await.ok()?.query_opt(sql, &[]).await.ok()??.get(0))
}

async fn a_server_that_is_killed_keeps_what_it_promised(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("killed").unwrap();
    stock(&db).await;
    db.admin(&format!("UPDATE stock SET pieces = {STOCK}")).unwrap();
    let all = crowd(&db, async || {
        // Ten times the server, twenty times the worker.
        for round in 0..30_u64 {
            tokio::time::sleep(Duration::from_millis(300 + 17 * round)).await;
            if round % 3 == 0 {
                cluster.kill().unwrap();
                cluster.start().unwrap();
            } else {
                // The worker alone, the hard way: the postmaster restarts everybody.
                let pid = loop {
                    match running(&db).await.map(|pid| pid.parse::<i32>()) {
                        Some(Ok(pid)) => break pid,
                        _ => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
                assert!(kill.success());
                while db.try_connect("app").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    check(&db, &all).await;
}

/// Alive, it would keep the next server from starting, for as long as it is ready to wait.
async fn a_caller_ends_with_the_postmaster(_: Nowhere) {
    let cluster = Cluster::builder().start().unwrap();
    let db = cluster.database("orphaned").unwrap();
    stock(&db).await;
    let app = db.connect("app").await;
    buy(&app, "stock", "first", "a", 1).await;
    let kill = |name: &str, pid: &str| std::process::Command::new("kill").args([name, pid]).status().unwrap().success();
    let (worker, caller) = (worker(&db), app.column("SELECT pg_backend_pid()").await.remove(0));
    assert!(kill("-STOP", &worker));
    let waiting = tokio::spawn(async move {
        app.try_run("SELECT * FROM bulkhead.decrement_now('stock', 'second', 'a', 1, wait => '1 hour')").await.is_err()
    });
    let is_asleep = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {caller}");
    until("it waits", async || db.admin(&is_asleep).unwrap() == "Extension").await;
    let file = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    assert!(kill("-9", file.lines().next().unwrap().trim()));
    let begun = std::time::Instant::now();
    until("its process is gone", async || !kill("-0", &caller)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(waiting.await.unwrap());
    assert!(kill("-9", &worker));
}
