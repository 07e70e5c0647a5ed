//! docs/examples/payments.py, asked over HTTP: what each request is told, many at once, and killed in the middle.

mod http;
mod processor;
mod service;

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Database};
use serde_json::{Value, json};

use crate::harness::Skip;
use http::{Answer, Shop};
use processor::{Processor, Reply};
use service::Service;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        each_request_is_told_what_there_is,
        of_many_requests_at_once_one_works,
        an_order_that_was_killed_is_made_once,
        a_card_is_charged_once_whatever_is_killed => 240,
        who_was_too_slow_does_not_count,
        what_the_processor_says_is_passed_on,
    ]
}

/// A payment's: longer than the example takes to start again.
const LEASE: &str = "10 seconds";

/// The example's tables, a processor, and the example itself.
async fn shop(db: &Database, lease: &str) -> Result<(Service, Processor, Client), Skip> {
    let python = db.cluster.provision().python.clone();
    let python = python.ok_or_else(|| Skip("Python with FastAPI and psycopg is not installed".into()))?;
    let made = db.psql("owner", include_str!("../../../../docs/examples/payments.sql")).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let processor = Processor::start();
    let service = Service::start(db, &python, processor.port, lease);
    Ok((service, processor, db.connect("postgres").await))
}

fn order() -> Value {
    json!({"item": "anchor", "quantity": 2})
}

fn payment() -> Value {
    json!({"amount": 990, "card": "4242"})
}

/// Rows of all tenants.
fn rows(db: &Database, table: &str) -> String {
    db.admin(&format!("SELECT count(*) FROM {table}")).unwrap()
}

/// Asks again, as a client would, until somebody has an answer: one that is neither 409 nor a connection that broke.
async fn until_answered(shop: &Shop, path: &str, key: &str, body: &Value) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let answer = shop.post(path, key, body).await;
        match answer {
            Ok(answer) if answer.status != 409 && answer.status != 500 => return answer,
            other => assert!(Instant::now() < deadline, "{key}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until an insert of the example waits for a lock.
async fn until_working(db: &Database) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO orders%'";
    while db.admin(waiting).unwrap() == "0" {
        assert!(Instant::now() < deadline, "no order is being made");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn each_request_is_told_what_there_is(db: Database) -> Result<(), Skip> {
    let (service, _processor, admin) = shop(&db, LEASE).await?;
    let h2o = service.shop("h2o");
    for key in ["", "\"\""] {
        let answer = h2o.post("/orders", key, &order()).await.unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/problem+json")));
    }
    assert_eq!(service.shop("").post("/orders", "k", &order()).await.unwrap().status, 401);

    let first = h2o.post("/orders", "k", &order()).await.unwrap();
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None), "{first:?}");
    assert_eq!(first.body["item"], "anchor");
    // The same request, also with its key in quotes and its body in another order.
    for (key, body) in [("k", order().to_string()), ("\"k\"", r#"{"quantity": 2, "item": "anchor"}"#.to_owned())] {
        let again = h2o.send("/orders", key, &body).await.unwrap();
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
        assert_eq!(again.body, first.body);
    }
    let other = h2o.post("/orders", "k", &json!({"item": "anchor", "quantity": 3})).await.unwrap();
    assert_eq!((other.status, other.header("idempotent-replayed")), (422, None), "another request");
    assert_eq!(h2o.post("/payments", "k", &payment()).await.unwrap().status, 422, "another path");
    let theirs = service.shop("all_county").post("/orders", "k", &order()).await.unwrap();
    assert_eq!((theirs.status, theirs.header("idempotent-replayed")), (201, None), "another tenant's key");
    assert_eq!(rows(&db, "orders"), "2");

    // While the first one works.
    admin.run("BEGIN; LOCK TABLE orders IN SHARE MODE").await;
    let slow = h2o.clone();
    let working = tokio::spawn(async move { slow.post("/orders", "slow", &order()).await.unwrap() });
    until_working(&db).await;
    let busy = h2o.post("/orders", "slow", &order()).await.unwrap();
    assert_eq!((busy.status, busy.header("retry-after")), (409, Some("1")));
    let other = h2o.post("/orders", "slow", &json!({"item": "rope", "quantity": 2})).await.unwrap();
    assert_eq!(other.status, 422, "also while it runs");
    admin.run("COMMIT").await;
    assert_eq!(working.await.unwrap().status, 201);
    // An order that the table refuses frees its key.
    let bad = json!({"item": "rope", "quantity": -1});
    assert_eq!(h2o.post("/orders", "bad", &bad).await.unwrap().status, 500);
    assert_eq!(h2o.post("/orders", "bad", &order()).await.unwrap().status, 201);
    Ok(())
}

async fn of_many_requests_at_once_one_works(db: Database) -> Result<(), Skip> {
    const CLIENTS: usize = 16;
    let (service, processor, _) = shop(&db, LEASE).await?;
    for (path, body) in [("/orders", order()), ("/payments", payment())] {
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..CLIENTS * 5 {
            let (shop, body) = (service.shop("h2o"), body.clone());
            asking.spawn(async move { until_answered(&shop, path, &format!("{path} {}", number % 5), &body).await });
        }
        let mut worked = 0;
        while let Some(answer) = asking.join_next().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 201, "{answer:?}");
            worked += usize::from(answer.header("idempotent-replayed").is_none());
        }
        assert_eq!(worked, 5, "{path}: one for each key");
    }
    assert_eq!((rows(&db, "orders"), rows(&db, "payments")), ("5".into(), "5".into()));
    assert_eq!(
        processor.calls(),
        ["h2o//payments 0", "h2o//payments 1", "h2o//payments 2", "h2o//payments 3", "h2o//payments 4"]
    );
    Ok(())
}

/// kill -9 while the order is being made, and after its answer.
async fn an_order_that_was_killed_is_made_once(db: Database) -> Result<(), Skip> {
    let (mut service, _processor, admin) = shop(&db, LEASE).await?;
    let h2o = service.shop("h2o");
    admin.run("BEGIN; LOCK TABLE orders IN SHARE MODE").await;
    let cut = h2o.clone();
    let working = tokio::spawn(async move { cut.post("/orders", "k", &order()).await });
    until_working(&db).await;
    service.kill();
    assert!(working.await.unwrap().is_err(), "no answer came");
    service.restart();
    let busy = h2o.post("/orders", "k", &order()).await.unwrap();
    assert_eq!(busy.status, 409, "its transaction has not ended");
    admin.run("COMMIT").await;
    let retried = until_answered(&h2o, "/orders", "k", &order()).await;
    assert_eq!((retried.status, retried.header("idempotent-replayed")), (201, None), "{retried:?}");
    service.kill();
    service.restart();
    let replayed = h2o.post("/orders", "k", &order()).await.unwrap();
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(replayed.body, retried.body);
    assert_eq!(rows(&db, "orders"), "1");
    Ok(())
}

async fn a_card_is_charged_once_whatever_is_killed(db: Database) -> Result<(), Skip> {
    let (mut service, processor, _) = shop(&db, LEASE).await?;
    let h2o = service.shop("h2o");
    // The card is charged, and the example dies before it hears of it.
    processor.reply(Reply::Never);
    let cut = h2o.clone();
    let working = tokio::spawn(async move { cut.post("/payments", "k", &payment()).await });
    processor.until_called().await;
    service.kill();
    assert!(working.await.unwrap().is_err(), "no answer came");
    processor.reply(Reply::Charged);
    service.restart();
    let busy = h2o.post("/payments", "k", &payment()).await.unwrap();
    assert_eq!(busy.status, 409, "its lease has not run out");
    let paid = until_answered(&h2o, "/payments", "k", &payment()).await;
    assert_eq!((paid.status, paid.header("idempotent-replayed")), (201, None), "{paid:?}");
    assert_eq!(processor.calls(), ["h2o/k", "h2o/k"], "the second attempt used the key of the first");
    assert_eq!(paid.body, json!({"charge": "charge 1", "amount": 990}));

    // And under load, again and again. A payment is recorded once, and each card charged once.
    const KEYS: usize = 40;
    let mut paying = tokio::task::JoinSet::new();
    for number in 0..KEYS * 2 {
        let shop = service.shop("h2o");
        paying
            .spawn(async move { until_answered(&shop, "/payments", &format!("p{}", number % KEYS), &payment()).await });
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        service.kill();
        service.restart();
    }
    while let Some(answer) = paying.join_next().await {
        assert_eq!(answer.unwrap().status, 201);
    }
    assert_eq!(processor.charges(), KEYS + 1);
    assert_eq!(rows(&db, "payments"), (KEYS + 1).to_string());
    Ok(())
}

/// The processor takes longer than the lease: another request takes over and is charged the same; the first one's end is refused.
async fn who_was_too_slow_does_not_count(db: Database) -> Result<(), Skip> {
    let (service, processor, _) = shop(&db, "500 ms").await?;
    let h2o = service.shop("h2o");
    processor.reply(Reply::Never);
    let slow = h2o.clone();
    let working = tokio::spawn(async move { slow.post("/payments", "k", &payment()).await.unwrap() });
    processor.until_called().await;
    processor.reply(Reply::Charged);
    let paid = until_answered(&h2o, "/payments", "k", &payment()).await;
    assert_eq!((paid.status, paid.header("idempotent-replayed")), (201, None));
    processor.break_silence();
    let late = working.await.unwrap();
    assert_eq!((late.status, late.header("retry-after")), (409, Some("1")), "{late:?}");
    assert!(late.body["detail"].as_str().unwrap().contains("has taken over"), "{late:?}");
    let retried = h2o.post("/payments", "k", &payment()).await.unwrap();
    assert_eq!((retried.status, &retried.body), (201, &paid.body));
    assert_eq!((rows(&db, "payments"), processor.charges()), ("1".into(), 1));
    Ok(())
}

async fn what_the_processor_says_is_passed_on(db: Database) -> Result<(), Skip> {
    let (service, processor, _) = shop(&db, LEASE).await?;
    let h2o = service.shop("h2o");
    processor.reply(Reply::Broken);
    let failed = h2o.post("/payments", "k", &payment()).await.unwrap();
    assert_eq!((failed.status, failed.header("retry-after")), (502, Some("1")));
    processor.reply(Reply::Charged);
    let started = Instant::now();
    let paid = h2o.post("/payments", "k", &payment()).await.unwrap();
    assert_eq!((paid.status, paid.header("idempotent-replayed")), (201, None), "the key was released");
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waited for the lease");
    processor.reply(Reply::Declined);
    let first = h2o.post("/payments", "no", &payment()).await.unwrap();
    assert_eq!(first.status, 402);
    processor.reply(Reply::Charged);
    let again = h2o.post("/payments", "no", &payment()).await.unwrap();
    assert_eq!((again.status, again.header("idempotent-replayed")), (402, Some("true")));
    assert_eq!(again.body, first.body);
    // What the table could not hold is not charged.
    let charged = processor.charges();
    for amount in [-1_i64, 0, i64::MAX] {
        let odd = h2o.post("/payments", "odd", &json!({"amount": amount, "card": "tok_1"})).await.unwrap();
        assert_eq!(odd.status, 422, "{odd:?}");
    }
    assert_eq!((rows(&db, "payments"), processor.charges()), ("1".into(), charged));
    Ok(())
}
