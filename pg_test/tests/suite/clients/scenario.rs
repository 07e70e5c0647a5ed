//! What every example has to get right.

use pg_test::{Client, Database};
use serde_json::{Value, json};

use super::ask::{Answer, Example};
use crate::tokens::fixture::{Issuer, jwks, setting};

/// More than the connections of any example's pool.
const AT_ONCE: usize = 24;

pub const TABLES: &str = include_str!("../../../../docs/examples/clients/orders.sql");

/// A trigger that fails an order for the item `fail SQLSTATE TIMES` so many times, counted by a sequence, which no
/// rollback takes back.
const TROUBLE: &str = "
CREATE SEQUENCE attempt;
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.item LIKE 'fail %' AND nextval('attempt') <= split_part(NEW.item, ' ', 3)::int THEN
    RAISE EXCEPTION 'trouble' USING ERRCODE = split_part(NEW.item, ' ', 2);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER trouble BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION trouble();";

pub async fn play(db: &Database, example: &impl Example) {
    let issuer = Issuer::es("k1");
    setting(db, "bulkhead.jwks", &jwks(&[&issuer])).await;
    let owner = db.connect("owner").await;
    owner.run(TABLES).await;
    owner.run(TROUBLE).await;
    let all = db.past_the_seal("postgres").await;
    all.run("INSERT INTO stock VALUES ('h2o', 'anchor', 10), ('acme', 'anchor', 10)").await;

    without_a_tenant_nothing_is_read(example).await;
    at_once_each_tenant_sees_its_own(example, &all).await;
    a_request_that_comes_twice_is_done_once(example, &all).await;
    what_fails_leaves_nothing(example, &all).await;
    what_may_be_tried_again_is(example, &owner).await;
    a_token_stands_for_its_tenant(example, &issuer).await;
    of_the_last_pieces_each_is_sold_once(example, &all).await;
    without_a_tenant_nothing_is_read(example).await;
}

async fn without_a_tenant_nothing_is_read(example: &impl Example) {
    is_naked(example.naked().await);
    assert_eq!(example.left().await, Ok(Value::Null));
}

#[track_caller]
fn is_naked(answer: Answer) {
    let refusal = answer.unwrap_err();
    refusal.state("42501");
    assert!(refusal.message.contains("no tenant context for protected table public.orders"), "{}", refusal.message);
}

async fn at_once_each_tenant_sees_its_own(example: &impl Example, all: &Client) {
    let tasks = (0..AT_ONCE).map(|number| async move {
        let tenant = ["h2o", "acme"][number % 2];
        let order = example.order(tenant, &format!("many-{number}"), "rope", 1).await.unwrap();
        assert_eq!(order[0], 201, "{order}");
        let rows = example.list(tenant).await.unwrap();
        let rows = rows.as_array().unwrap();
        assert!(rows.iter().any(|row| row["id"] == order[1]["id"]), "{order} is not in {rows:?}");
        assert!(rows.iter().all(|row| row["tenant_id"] == tenant), "{tenant}: {rows:?}");
        is_naked(example.naked().await);
        assert_eq!(example.left().await, Ok(Value::Null));
    });
    together(tasks).await;
    let counts = all.rows("SELECT tenant_id, count(*) FROM orders GROUP BY 1 ORDER BY 1").await;
    assert_eq!(counts, [["acme", "12"], ["h2o", "12"]]);
    for tenant in ["h2o", "acme"] {
        assert_eq!(example.list(tenant).await.unwrap().as_array().unwrap().len(), AT_ONCE / 2);
    }
}

async fn a_request_that_comes_twice_is_done_once(example: &impl Example, all: &Client) {
    let first = example.order("h2o", "twice", "sail", 2).await.unwrap();
    assert_eq!((&first[0], &first[1]["item"], &first[1]["quantity"]), (&json!(201), &json!("sail"), &json!(2)));
    assert_eq!(example.order("h2o", "twice", "sail", 2).await, Ok(first.clone()));
    assert_eq!(example.order("h2o", "twice", "sail", 3).await.unwrap()[0], 422);
    let other = example.order("acme", "twice", "sail", 2).await.unwrap();
    assert_eq!(other[0], 201);
    assert_ne!(other[1]["id"], first[1]["id"], "a key is its tenant's own");

    let answers = together((0..10).map(|_| example.order("h2o", "storm", "sail", 1))).await;
    let (done, busy): (Vec<Value>, Vec<Value>) =
        answers.into_iter().map(Result::unwrap).partition(|answer| answer[0] == 201);
    assert!(!done.is_empty() && done.iter().all(|answer| *answer == done[0]), "{done:?}");
    assert!(busy.iter().all(|answer| answer[0] == 409), "{busy:?}");
    assert_eq!(all.one("SELECT count(*) FROM orders WHERE item = 'sail'").await, "3");
}

async fn what_fails_leaves_nothing(example: &impl Example, all: &Client) {
    example.order("h2o", "failing", "none", 0).await.unwrap_err().state("23514");
    assert_eq!(example.left().await, Ok(Value::Null));
    assert_eq!(all.one("SELECT count(*) FROM orders WHERE item = 'none'").await, "0");
    assert_eq!(example.order("h2o", "failing", "none", 1).await.unwrap()[0], 201, "the key is free again");
}

/// A transaction is repeated as a whole after these errors, and after no other.
async fn what_may_be_tried_again_is(example: &impl Example, owner: &Client) {
    let begin = || owner.run("ALTER SEQUENCE attempt RESTART");
    let attempts = || owner.one("SELECT last_value FROM attempt");
    for state in ["40001", "40P01", "55P03"] {
        begin().await;
        let done = example.order("h2o", &format!("again-{state}"), &format!("fail {state} 2"), 1).await.unwrap();
        assert_eq!((&done[0], attempts().await.as_str()), (&json!(201), "3"), "{state}");
    }
    begin().await;
    example.order("h2o", "never", "fail 40001 99", 1).await.unwrap_err().state("40001");
    assert_eq!(attempts().await, "4", "it gives up");
    begin().await;
    example.order("h2o", "other", "fail 23505 2", 1).await.unwrap_err().state("23505");
    assert_eq!(attempts().await, "1");
}

async fn a_token_stands_for_its_tenant(example: &impl Example, issuer: &Issuer) {
    let token = issuer.token("globex");
    let order = example.order(&token, "by-token", "mast", 1).await.unwrap();
    assert_eq!(order[0], 201);
    let rows = example.list(&token).await.unwrap();
    assert_eq!(rows, json!([{"id": order[1]["id"], "tenant_id": "globex", "item": "mast", "quantity": 1}]));
    assert_eq!(example.list("globex").await, Ok(rows), "a token and a bare id are the same tenant");
    let forged = Issuer::es("k1").token("globex");
    example.list(&forged).await.unwrap_err().state("28000");
    assert_eq!(example.left().await, Ok(Value::Null));
    is_naked(example.naked().await);
    assert!(example.list(&token).await.is_ok(), "the next transaction begins anew");
}

async fn of_the_last_pieces_each_is_sold_once(example: &impl Example, all: &Client) {
    let sales = together((0..20).map(|number| {
        let order = format!("sale-{number}");
        async move { example.sell("h2o", &order, "anchor", 1).await.unwrap() }
    }))
    .await;
    let sold = sales.iter().filter(|sale| sale["verdict"] == "accepted").count();
    let missed = sales.iter().filter(|sale| sale["verdict"] == "insufficient").count();
    assert_eq!((sold, missed), (10, 10), "{sales:?}");
    assert_eq!(example.sell("h2o", "sale-0", "anchor", 1).await, Ok(sales[0].clone()), "asked again");
    assert_eq!(all.rows("SELECT tenant_id, pieces FROM stock ORDER BY 1").await, [["acme", "10"], ["h2o", "0"]]);
}

/// All at once, in one task: the example's own concurrency is what counts.
async fn together<T>(tasks: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures(tasks.map(Box::pin).collect()).await
}

async fn futures<T, F: Future<Output = T> + Unpin>(mut tasks: Vec<F>) -> Vec<T> {
    let mut done: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut waits = false;
        for (task, done) in tasks.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            match std::pin::Pin::new(task).poll(context) {
                std::task::Poll::Ready(value) => *done = Some(value),
                std::task::Poll::Pending => waits = true,
            }
        }
        if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
