//! Claim and complete: transactions a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use pg_test::bench::chart::{Bar, Group};
use pg_test::bench::report::Figure;
use pg_test::bench::throughput::{Work, slice};
use pg_test::bench::{Line, Options, Report, Rounds, Target, Ticker, there_and_back};
use pg_test::{Client, Database};
use serde_json::Value;
use tokio_postgres::Statement;
use uuid::Uuid;

use crate::keys::{self, Kind};
use crate::tables::{self, RESPONSE, Shape};

const CLIENTS: [usize; 3] = [1, 8, 32];

/// Who keeps the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ours,
    ByHand,
    Naive,
}

const SIDES: [Side; 3] = [Side::Ours, Side::ByHand, Side::Naive];

impl Side {
    pub fn role(self) -> &'static str {
        if self == Side::Ours { "app" } else { "plain" }
    }

    pub fn claim(self) -> &'static str {
        match self {
            Side::Ours => "SELECT state, fence FROM bulkhead.idempotency_claim($1, $2)",
            Side::ByHand => {
                "INSERT INTO by_hand (tenant, key, fingerprint, state, attempt, lease_until, claimed_at)
                 VALUES ($3, $1, $2, 's', 1, now() + interval '1 minute', now()) ON CONFLICT (tenant, key) DO NOTHING RETURNING 'started', attempt::bigint"
            }
            Side::Naive => {
                "INSERT INTO naive (tenant, key, fingerprint, state, attempt, lease_until, claimed_at, day)
                 VALUES ($3, $1, $2, 's', 1, now() + interval '1 minute', now(), (now() AT TIME ZONE 'UTC')::date)
                 ON CONFLICT (tenant, key, day) DO NOTHING RETURNING 'started', attempt::bigint"
            }
        }
    }

    pub fn complete(self) -> &'static str {
        match self {
            Side::Ours => "SELECT bulkhead.idempotency_complete($1, 201, $2, $3)",
            Side::ByHand => {
                "UPDATE by_hand SET state = 'f', status = 201, response = $2, finished_at = now()
                  WHERE tenant = $4 AND key = $1 AND attempt = $3::bigint AND state = 's'"
            }
            Side::Naive => {
                "UPDATE naive SET state = 'f', status = 201, response = $2, finished_at = now()
                  WHERE tenant = $4 AND key = $1 AND attempt = $3::bigint AND state = 's'"
            }
        }
    }
}

/// A session that claims a new key and completes it, again and again.
pub struct Claimer {
    pub session: Client,
    side: Side,
    kind: Kind,
    /// Claim and complete in one transaction.
    together: bool,
    /// By hand: claims are for these in turn.
    tenants: Vec<Uuid>,
    next: AtomicUsize,
    claim: Statement,
    complete: Statement,
    response: Value,
}

impl Claimer {
    pub async fn new(database: &Database, side: Side, kind: Kind, together: bool, number: usize) -> Result<Claimer> {
        let session = database.try_connect(side.role()).await?;
        let tenant = tables::tenant(number);
        if side == Side::Ours {
            session.batch_execute(&format!("SET bulkhead.tenant_context = '{tenant}'")).await?;
        }
        let claim = session.prepare(side.claim()).await?;
        let complete = session.prepare(side.complete()).await?;
        let (tenants, response) = (vec![tenant.parse()?], serde_json::from_str(RESPONSE)?);
        let next = AtomicUsize::new(0);
        Ok(Claimer { session, side, kind, together, tenants, next, claim, complete, response })
    }

    /// By hand, keys of one tenant lie side by side in the index, which ours never do: where the index is large, claims have to be for many tenants.
    pub fn of_all_tenants(mut self) -> Claimer {
        // A step without a common divisor: neighbours in time are none in the index.
        self.tenants = (0..1000).filter_map(|number| tables::tenant(number * 379).parse().ok()).collect();
        self
    }

    fn tenant(&self) -> &Uuid {
        &self.tenants[self.next.load(Ordering::Relaxed) % self.tenants.len()]
    }

    /// Claims a new key; the number to complete it with.
    pub async fn claim(&self, key: &str) -> Result<i64> {
        self.next.fetch_add(1, Ordering::Relaxed);
        // As long as what request_fingerprint() gives.
        let fingerprint = format!("{key:0>64}");
        let row = match self.side {
            Side::Ours => self.session.query_one(&self.claim, &[&key, &fingerprint]).await?,
            _ => self.session.query_one(&self.claim, &[&key, &fingerprint, self.tenant()]).await?,
        };
        ensure!(row.try_get::<_, &str>(0)? == "started", "{:?}: key {key} was there before", self.side);
        Ok(row.try_get(1)?)
    }

    pub fn new_key(&self) -> String {
        keys::fresh(self.kind)
    }

    async fn complete(&self, key: &str, fence: i64) -> Result<()> {
        let rows = match self.side {
            Side::Ours => self.session.execute(&self.complete, &[&key, &self.response, &fence]).await?,
            _ => self.session.execute(&self.complete, &[&key, &self.response, &fence, self.tenant()]).await?,
        };
        ensure!(rows == 1, "{:?}: {rows} rows of key {key} were completed", self.side);
        Ok(())
    }
}

impl Work for Claimer {
    async fn transaction(&self) -> Result<()> {
        let key = self.new_key();
        if self.together {
            self.session.batch_execute("BEGIN").await?;
        }
        let fence = self.claim(&key).await?;
        self.complete(&key, fence).await?;
        if self.together {
            self.session.batch_execute("COMMIT").await?;
        }
        Ok(())
    }
}

/// All numbers of clients, both uses; the chart's groups, one for each rival.
pub async fn measure(database: &Database, shape: &Shape, options: &Options, report: &mut Report) -> Result<Vec<Group>> {
    let targets = [Target::AtLeast(0.85), Target::AtLeast(1.5)];
    let mut bars = [Vec::new(), Vec::new()];
    for together in [false, true] {
        for clients in CLIENTS {
            let way = if together { "in one transaction" } else { "two transactions" };
            let people = if clients == 1 { "1 client".to_string() } else { format!("{clients} clients") };
            let title = format!("claim and complete, {way}, {people}: {}", shape.name);
            let measured = throughput(database, shape, options, &title, clients, together).await?;
            for (at, rival) in ["one unpartitioned table, by hand", "by hand, naively partitioned"].iter().enumerate() {
                report.lines.push(Line {
                    what: title.clone(),
                    ours: Figure(measured.median(0), "a second"),
                    rival: (*rival).into(),
                    rival_figure: Figure(measured.median(at + 1), "a second"),
                    results: measured.ratios(0, at + 1),
                    unit: Line::TIMES,
                    target: Some(targets[at]),
                });
                let median = measured.ratio(0, at + 1).median;
                bars[at].push(Bar {
                    name: format!("{way}, {people}"),
                    ours: true,
                    rounds: measured.ratios(0, at + 1),
                    median,
                    label: format!("{median:.2} ×"),
                });
            }
        }
    }
    let [by_hand, naive] = bars;
    Ok(vec![
        Group {
            title: format!("against one unpartitioned table by hand: {}", shape.name),
            target: Some((0.85, "at least 0.85".into())),
            bars: by_hand,
        },
        Group {
            title: format!("against a naively partitioned one: {}", shape.name),
            target: Some((1.5, "at least 1.5".into())),
            bars: naive,
        },
    ])
}

async fn throughput(
    database: &Database,
    shape: &Shape,
    options: &Options,
    title: &str,
    clients: usize,
    together: bool,
) -> Result<Rounds<3>> {
    let rounds = options.pick(10, 2);
    let length = Duration::from_millis(options.pick(350, 50));
    let mut arms = Vec::new();
    for side in SIDES {
        let mut workers = Vec::new();
        for number in 0..clients {
            workers.push(Arc::new(Claimer::new(database, side, shape.kind, together, number).await?));
        }
        // Not counted: a prepared statement is planned anew five times before its plan is kept.
        slice(&workers, length / 2).await?;
        arms.push(workers);
    }
    let mut ticker = Ticker::new(title, rounds);
    let mut measured = Rounds::<3>::default();
    while measured.count() < rounds {
        for which in there_and_back(SIDES.len()) {
            measured.add(which, slice(&arms[which], length).await?);
        }
        measured.end_round();
        ticker.tick(measured.count());
    }
    Ok(measured)
}
