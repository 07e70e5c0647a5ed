//! Ours and its rivals: each a session with an endless supply of transactions.

use std::time::Duration;

use anyhow::{Result, ensure};
use pg_test::bench::demand::{Demand, Orders};
use pg_test::bench::throughput::Work;
use pg_test::{Client, Database};
use tokio_postgres::Statement;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// decrement_inventory() with so many orders.
    Ours(usize),
    /// The same by hand, in two statements on sets.
    Sets(usize),
    /// The same in a loop.
    Loop(usize),
    /// As many rows of verdicts, and nothing else.
    Bare(usize),
    /// SELECT … FOR UPDATE, UPDATE and INSERT, each a statement of the client's, which waits so long after the first.
    ForUpdate(Duration),
    /// One statement that takes one if there is one.
    Atomic,
    /// A row for each unit.
    SkipLocked,
}

impl Way {
    pub fn orders(self) -> usize {
        match self {
            Way::Ours(orders) | Way::Sets(orders) | Way::Loop(orders) | Way::Bare(orders) => orders,
            _ => 1,
        }
    }

    pub fn name(self) -> String {
        match self {
            Way::Ours(_) => "decrement_inventory()".into(),
            Way::Sets(_) => "sets, by hand".into(),
            Way::Loop(_) => "loop, by hand".into(),
            Way::Bare(_) => "bare INSERT … SELECT".into(),
            Way::ForUpdate(delay) if delay.is_zero() => "FOR UPDATE".into(),
            Way::ForUpdate(delay) => format!("FOR UPDATE, {} ms at the client", delay.as_millis()),
            Way::Atomic => "UPDATE … WHERE quantity >= n".into(),
            Way::SkipLocked => "SKIP LOCKED, a row a unit".into(),
        }
    }

    fn statements(self) -> Vec<&'static str> {
        const STORE: &str = "INSERT INTO ledger VALUES (md5($1)::uuid, clock_timestamp(), 1, $2, 'by_hand'::regclass, 1, 'a', '', $1, 'item 1')";
        match self {
            Way::Ours(_) => vec!["SELECT * FROM bulkhead.decrement_inventory('hot', $1::text[], $2::text[], $3::bigint[])"],
            Way::Sets(_) => vec!["SELECT * FROM by_sets($1::text[], $2::text[], $3::bigint[])"],
            Way::Loop(_) => vec!["SELECT * FROM by_loop($1::text[], $2::text[], $3::bigint[])"],
            Way::Bare(_) => vec![
                "INSERT INTO ledger SELECT md5(o)::uuid, clock_timestamp(), q, 7, 'by_hand'::regclass, 1, 'a', '', o, i
                   FROM unnest($1::text[], $2::text[], $3::bigint[]) AS a (o, i, q)",
            ],
            Way::ForUpdate(_) => vec![
                "SELECT quantity FROM by_hand WHERE id = $1 FOR UPDATE",
                "UPDATE by_hand SET quantity = quantity - 1 WHERE id = $1",
                STORE,
            ],
            Way::Atomic => vec![
                "WITH taken AS (UPDATE by_hand SET quantity = quantity - 1 WHERE id = $2 AND quantity >= 1 RETURNING quantity)
                 INSERT INTO ledger SELECT md5($1)::uuid, clock_timestamp(), 1, quantity, 'by_hand'::regclass, 1, 'a', '', $1, $2 FROM taken",
            ],
            Way::SkipLocked => vec![
                "WITH unit AS (SELECT ctid FROM units WHERE item = $2 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),
                      taken AS (DELETE FROM units USING unit WHERE units.ctid = unit.ctid)
                 INSERT INTO ledger SELECT md5($1)::uuid, clock_timestamp(), 1, 0, 'by_hand'::regclass, 1, 'a', '', $1, $2 FROM unit",
            ],
        }
    }
}

/// A session that orders.
pub struct Buyer {
    session: Client,
    statements: Vec<Statement>,
    way: Way,
    orders: Orders,
}

impl Buyer {
    pub async fn new(database: &Database, way: Way, demand: Demand, number: u64) -> Result<Buyer> {
        let session = database.try_connect(if matches!(way, Way::Ours(_)) { "app" } else { "owner" }).await?;
        let mut statements = Vec::new();
        for sql in way.statements() {
            statements.push(session.prepare(sql).await?);
        }
        Ok(Buyer { session, statements, way, orders: Orders::new(demand, number) })
    }
}

impl Work for Buyer {
    async fn transaction(&self) -> Result<()> {
        let (session, statements) = (&self.session, &self.statements);
        if self.way.orders() > 1 {
            let (mut orders, mut items) = (Vec::new(), Vec::new());
            for _ in 0..self.way.orders() {
                let (order, item) = self.orders.order();
                orders.push(order);
                items.push(item);
            }
            let quantities = vec![1_i64; orders.len()];
            let rows = session.query(&statements[0], &[&orders, &items, &quantities]).await?;
            ensure!(rows.is_empty() || rows.len() == orders.len(), "{} rows for {} orders", rows.len(), orders.len());
            return Ok(());
        }
        let (order, item) = self.orders.order();
        match self.way {
            Way::ForUpdate(delay) => {
                session.batch_execute("BEGIN").await?;
                let left: i64 = session.query_one(&statements[0], &[&item]).await?.get(0);
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                session.execute(&statements[1], &[&item]).await?;
                session.execute(&statements[2], &[&order, &(left - 1)]).await?;
                session.batch_execute("COMMIT").await?;
            }
            _ => {
                let stored = session.execute(&statements[0], &[&order, &item]).await?;
                ensure!(stored == 1, "{} stored {stored} verdicts", self.way.name());
            }
        }
        Ok(())
    }
}
