//! Many connections at once, and a count of what they saw that was not theirs.
//!
//! Each connection serves one request after the other, for another tenant each time, as behind a pooler. Every row that
//! comes back is looked at here, in the client: the count does not rest on anything that the extension says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use pg_test::{Client, Database};
use tokio::task::JoinSet;
use tokio_postgres::Statement;

use super::paint::number;
use super::products::{Product, Products};
use super::progress;

#[derive(Clone, Copy)]
pub struct Crowd {
    pub connections: usize,
    pub requests: u64,
    /// False: the tables are open and nobody names a tenant, so requests only read.
    pub protected: bool,
}

/// What the crowd did and saw.
#[derive(Default)]
pub struct Seen {
    /// Pages that were read, and the rows on them.
    pub pages: u64,
    pub rows: u64,
    /// Rows that belong to another tenant than the request's.
    pub foreign: u64,
    /// New rows that did not say whose they are.
    pub written: u64,
    /// Requests that failed on purpose after they had read, and were rolled back.
    pub failed: u64,
    /// Requests that forgot to name their tenant, and how many of those were refused.
    pub forgot: u64,
    pub refused: u64,
    pub tenants: BTreeSet<(usize, String)>,
}

#[derive(Clone, Copy)]
enum Request {
    Read,
    Write,
    Fail,
    Forget,
}

impl Request {
    /// Out of twenty: fifteen read, two write, two fail, one forgets its tenant.
    fn pick(number: u64, protected: bool) -> Self {
        match number % 20 {
            _ if !protected => Self::Read,
            3 | 13 => Self::Write,
            6 | 16 => Self::Fail,
            9 => Self::Forget,
            _ => Self::Read,
        }
    }
}

/// What all connections share.
struct Traffic {
    crowd: Crowd,
    started: AtomicU64,
    /// Which product, and which tenant of it.
    tenants: Vec<(usize, String)>,
    statements: Vec<Statements>,
}

/// What the requests of one product run; both return whose row it is, as text.
struct Statements {
    page: String,
    insert: String,
}

impl Statements {
    fn of(product: &Product) -> Self {
        Self {
            page: format!("SELECT page.{}::text FROM ({}) AS page", product.column, product.latest),
            insert: format!("{} RETURNING {}::text", product.insert, product.column),
        }
    }
}

/// Sends the crowd in and adds up what it saw.
pub async fn send(database: &Database, products: &Products, crowd: Crowd) -> Result<Seen> {
    let all = products.all();
    let tenants =
        all.iter().enumerate().flat_map(|(i, product)| product.tenants.iter().map(move |t| (i, t.id.clone())));
    let traffic = Arc::new(Traffic {
        crowd,
        started: AtomicU64::new(0),
        tenants: tenants.collect(),
        statements: all.iter().map(|product| Statements::of(product)).collect(),
    });
    let mut connections = JoinSet::new();
    for number in 0..crowd.connections {
        let client = database.try_connect("app").await.with_context(|| format!("opening connection {number}"))?;
        connections.spawn(serve(client, Arc::clone(&traffic)));
    }
    let mut total = Seen::default();
    let finish = async {
        while let Some(seen) = connections.join_next().await {
            total.add(seen.context("a connection's task ended early")??);
        }
        anyhow::Ok(())
    };
    let now = || {
        let started = traffic.started.load(Ordering::Relaxed).min(crowd.requests);
        format!("{} of {} requests", number(started), number(crowd.requests))
    };
    progress::during(finish, now).await?;
    Ok(total)
}

/// One connection: requests of changing tenants until all are served.
async fn serve(mut client: Client, traffic: Arc<Traffic>) -> Result<Seen> {
    let set_tenant = client.prepare("SELECT bulkhead.set_tenant($1)").await?;
    // Prepared once and used for every tenant: also a plan that the server keeps must filter anew each time.
    let mut prepared = Vec::new();
    for Statements { page, insert } in &traffic.statements {
        prepared.push((client.prepare(page).await?, client.prepare(insert).await?));
    }
    let mut seen = Seen::default();
    loop {
        let number = traffic.started.fetch_add(1, Ordering::Relaxed);
        if number >= traffic.crowd.requests {
            return Ok(seen);
        }
        let (product, tenant) = &traffic.tenants[(scatter(number) % traffic.tenants.len() as u64) as usize];
        let (page, insert) = &prepared[*product];
        seen.tenants.insert((*product, tenant.clone()));
        let request = Request::pick(number, traffic.crowd.protected);
        if matches!(request, Request::Forget) {
            seen.forget(&client, page).await?;
            continue;
        }
        let transaction = client.transaction().await?;
        if traffic.crowd.protected {
            transaction.execute(&set_tenant, &[tenant]).await.context("naming the tenant")?;
        }
        let mut rows = transaction.query(page, &[]).await.context("reading a page")?;
        seen.pages += 1;
        seen.rows += rows.len() as u64;
        match request {
            Request::Write => {
                let written = transaction.query(insert, &[]).await.context("writing a row")?;
                seen.written += written.len() as u64;
                rows.extend(written);
                transaction.commit().await?;
            }
            Request::Fail => {
                anyhow::ensure!(transaction.query("SELECT 1 / 0", &[]).await.is_err(), "1 / 0 did not fail");
                seen.failed += 1;
                transaction.rollback().await?;
            }
            _ => transaction.commit().await?,
        }
        for row in &rows {
            let owner: &str = row.try_get(0).context("a row without its tenant")?;
            seen.foreign += u64::from(owner != tenant);
        }
    }
}

impl Seen {
    /// A request that names no tenant: all rows that it gets are too many.
    async fn forget(&mut self, client: &Client, page: &Statement) -> Result<()> {
        self.forgot += 1;
        match client.query(page, &[]).await {
            Ok(rows) => self.foreign += rows.len() as u64,
            Err(error) if error.code().is_some_and(|state| state.code() == "42501") => self.refused += 1,
            Err(error) => return Err(error).context("a page without a tenant"),
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.pages += other.pages;
        self.rows += other.rows;
        self.foreign += other.foreign;
        self.written += other.written;
        self.failed += other.failed;
        self.forgot += other.forgot;
        self.refused += other.refused;
        self.tenants.extend(other.tenants);
    }
}

/// Spreads neighbouring numbers (splitmix64), so that the tenants of a connection follow in no order.
fn scatter(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_request_occurs() {
        let kinds: Vec<Request> = (0..20).map(|number| Request::pick(number, true)).collect();
        let of = |wanted: fn(&Request) -> bool| kinds.iter().filter(|kind| wanted(kind)).count();
        assert_eq!(of(|kind| matches!(kind, Request::Read)), 15);
        assert_eq!(of(|kind| matches!(kind, Request::Write)), 2);
        assert_eq!(of(|kind| matches!(kind, Request::Fail)), 2);
        assert_eq!(of(|kind| matches!(kind, Request::Forget)), 1);
        assert!((0..20).all(|number| matches!(Request::pick(number, false), Request::Read)));
    }
}
