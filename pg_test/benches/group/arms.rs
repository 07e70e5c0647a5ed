//! Sessions that buy one thing at a time, each in its way, each order with its verdict in a ledger.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use pg_test::bench::demand::{Demand, Orders};
use pg_test::bench::throughput::Work;
use pg_test::{Client, Database};
use tokio_postgres::Statement;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    /// decrement_now().
    Now,
    /// decrement_inventory(), a call for each order.
    Line,
    /// One statement that takes one if there is one, and stores the verdict.
    Atomic,
    /// SELECT … FOR UPDATE, UPDATE and INSERT, each a statement of the client's.
    ForUpdate,
    /// decrement_now() for a tenant: BEGIN, SET LOCAL, SELECT, COMMIT in one message.
    Tenant(u32),
}

pub const WAYS: [Way; 4] = [Way::Now, Way::Line, Way::Atomic, Way::ForUpdate];

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Way::Now => "decrement_now()",
            Way::Line => "decrement_inventory(), one line",
            Way::Atomic => "UPDATE … WHERE quantity >= n",
            Way::ForUpdate => "FOR UPDATE",
            Way::Tenant(_) => "decrement_now() for a tenant",
        }
    }

    fn statements(self) -> &'static [&'static str] {
        match self {
            Way::Now => &["SELECT verdict FROM bulkhead.decrement_now('hot', $1, $2, 1)"],
            Way::Line => &["SELECT verdict FROM bulkhead.decrement_inventory('hot', $1, $2, 1)"],
            // The order is looked up first: a repeated one is not decided again.
            Way::Atomic => &[
                "WITH taken AS (UPDATE by_hand SET quantity = quantity - 1 WHERE id = $2 AND quantity >= 1
                   AND NOT EXISTS (SELECT FROM ledger WHERE digest = md5($1)::uuid AND line = 1 AND decided_at > now() - interval '7 days') RETURNING quantity)
                 INSERT INTO ledger SELECT md5($1)::uuid, clock_timestamp(), 1, quantity, 'by_hand'::regclass, 1, 'a', '', $1, $2 FROM taken",
            ],
            Way::ForUpdate => &[
                "SELECT quantity FROM by_hand WHERE id = $1 FOR UPDATE",
                "SELECT verdict FROM ledger WHERE digest = md5($1)::uuid AND line = 1 AND decided_at > now() - interval '7 days'",
                "UPDATE by_hand SET quantity = quantity - 1 WHERE id = $1",
                "INSERT INTO ledger VALUES (md5($1)::uuid, clock_timestamp(), 1, $2, 'by_hand'::regclass, 1, 'a', '', $1, 'item 1')",
            ],
            Way::Tenant(_) => &[],
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
    pub async fn new(database: &Database, way: Way, demand: Demand) -> Result<Buyer> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let is_ours = matches!(way, Way::Now | Way::Line | Way::Tenant(_));
        let session = database.try_connect(if is_ours { "app" } else { "owner" }).await?;
        let mut statements = Vec::new();
        for sql in way.statements() {
            statements.push(session.prepare(sql).await?);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Buyer { session, statements, way, orders: Orders::new(demand, number) })
    }
}

impl Work for Buyer {
    async fn transaction(&self) -> Result<()> {
        let (session, statements) = (&self.session, &self.statements);
        let (order, item) = self.orders.order();
        match self.way {
            Way::Now | Way::Line => {
                let rows = session.query(&statements[0], &[&order, &item]).await?;
                let verdict: &str = rows.first().map_or("", |row| row.get(0));
                ensure!(verdict == "accepted", "{}: {verdict}", self.way.name());
            }
            Way::Atomic => {
                let stored = session.execute(&statements[0], &[&order, &item]).await?;
                ensure!(stored == 1, "{} stored {stored} verdicts", self.way.name());
            }
            Way::ForUpdate => {
                session.batch_execute("BEGIN").await?;
                let left: i64 = session.query_one(&statements[0], &[&item]).await?.get(0);
                ensure!(session.query(&statements[1], &[&order]).await?.is_empty(), "an order came twice");
                session.execute(&statements[2], &[&item]).await?;
                session.execute(&statements[3], &[&order, &(left - 1)]).await?;
                session.batch_execute("COMMIT").await?;
            }
            Way::Tenant(tenant) => {
                let block = format!(
                    "BEGIN; SET LOCAL bulkhead.tenant_context = 'shop {tenant}'; SELECT bulkhead.decrement_now('shops', '{order}', 'item 1', 1); COMMIT"
                );
                session.batch_execute(&block).await?;
            }
        }
        Ok(())
    }
}
