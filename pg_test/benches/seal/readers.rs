//! Point SELECTs of many clients, ours and the rival's in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use pg_test::bench::chart::{Bar, Group};
use pg_test::bench::report::Figure;
use pg_test::bench::throughput::{Work, slice};
use pg_test::bench::{Line, Options, Report, Rounds, Target, Ticker, there_and_back};
use pg_test::{Client, Database};
use tokio_postgres::{SimpleQueryMessage, Statement};

use crate::tables::tenant;
use crate::{CLIENTS, KEYS, TENANTS};

/// How long one side has its turn.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    /// Parsed once; the key is a parameter.
    Prepared,
    /// The key stands in the text, which is parsed and planned each time.
    Text,
}

/// One session that reads rows of its tenant by their keys.
struct Reader {
    session: Client,
    table: &'static str,
    statement: Option<Statement>,
    tenant: usize,
    next: AtomicUsize,
}

impl Work for Reader {
    async fn transaction(&self) -> Result<()> {
        let number = self.next.fetch_add(37, Ordering::Relaxed);
        let key = number % (KEYS / TENANTS) * TENANTS + self.tenant;
        let rows = match &self.statement {
            Some(statement) => self.session.query(statement, &[&i64::try_from(key)?]).await?.len(),
            None => {
                let query = format!("SELECT balance, note FROM {} WHERE id = {key}", self.table);
                let answer = self.session.simple_query(&query).await?;
                answer.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count()
            }
        };
        ensure!(rows == 1, "{rows} rows instead of one for key {key} of {}", self.table);
        Ok(())
    }
}

/// Whom ours is measured against.
enum Rival {
    /// Sessions of another role.
    Role(&'static str),
    /// Sessions of the same role, on a table like it that is not observed.
    Unobserved(&'static str),
}

pub struct Comparison {
    title: &'static str,
    table: &'static str,
    has_tenant: bool,
    rival: Rival,
    rival_name: &'static str,
    target: f64,
}

pub const COMPARISONS: [Comparison; 3] = [
    Comparison {
        title: "a sealed table",
        table: "sealed",
        has_tenant: true,
        rival: Rival::Role("rls"),
        rival_name: "our policy without the seal",
        target: 0.97,
    },
    Comparison {
        title: "an unprotected table",
        table: "bare",
        has_tenant: true,
        rival: Rival::Role("plain"),
        rival_name: "no library",
        target: 0.99,
    },
    Comparison {
        title: "an observed table, naked",
        table: "observed",
        has_tenant: false,
        rival: Rival::Unobserved("unobserved"),
        rival_name: "the same unobserved",
        target: 0.97,
    },
];

impl Comparison {
    pub async fn run(&self, database: &Database, options: &Options, report: &mut Report) -> Result<Group> {
        let mut bars = Vec::new();
        for (protocol, name) in [(Protocol::Prepared, "prepared"), (Protocol::Text, "as text")] {
            let what = format!("{}, {name}", self.title);
            let measured = self.measure(&what, database, protocol, options).await?;
            let median = measured.ratio(0, 1).median;
            bars.push(Bar {
                name: name.into(),
                ours: true,
                rounds: measured.ratios(0, 1),
                median,
                label: format!("{median:.3} ×"),
            });
            report.lines.push(Line {
                what,
                ours: Figure(measured.median(0), "tps"),
                rival: self.rival_name.into(),
                rival_figure: Figure(measured.median(1), "tps"),
                results: measured.ratios(0, 1),
                unit: Line::TIMES,
                target: Some(Target::AtLeast(self.target)),
            });
        }
        let title = format!("{}, against {}", self.title, self.rival_name);
        Ok(Group { title, target: Some((self.target, format!("at least {}", self.target))), bars })
    }

    async fn measure(
        &self,
        what: &str,
        database: &Database,
        protocol: Protocol,
        options: &Options,
    ) -> Result<Rounds<2>> {
        let rounds = options.pick(48, 2);
        let turns = options.pick(4, 2);
        let mut ticker = Ticker::new(format!("{what}: transactions a second of {CLIENTS} clients"), rounds);
        let mut measured = Rounds::<2>::default();
        while measured.count() < rounds {
            // Where a process has its memory, and beside whom it runs, makes a larger difference than what is measured: new ones
            // each round, made in the other order.
            let both = self.sides(database, protocol, measured.count() % 2 == 0).await?;
            // The machine's weather changes within a second, so they take turns within a blink.
            for _ in 0..turns {
                for which in there_and_back(2) {
                    measured.add(which, slice(&both[which], SLICE).await?);
                }
            }
            measured.end_round();
            ticker.tick(measured.count());
        }
        Ok(measured)
    }

    /// Sessions of ours and of the rival. They have read and planned what they will use.
    async fn sides(&self, database: &Database, protocol: Protocol, first: bool) -> Result<[Vec<Arc<Reader>>; 2]> {
        let (role, table) = match self.rival {
            Rival::Role(role) => (role, self.table),
            Rival::Unobserved(table) => ("app", table),
        };
        let ours = async || self.readers(database, "app", self.table, protocol).await;
        let theirs = async || self.readers(database, role, table, protocol).await;
        let both = if first {
            let ours = ours().await?;
            [ours, theirs().await?]
        } else {
            let theirs = theirs().await?;
            [ours().await?, theirs]
        };
        for side in &both {
            slice(side, 4 * SLICE).await?;
        }
        Ok(both)
    }

    async fn readers(
        &self,
        database: &Database,
        role: &str,
        table: &'static str,
        protocol: Protocol,
    ) -> Result<Vec<Arc<Reader>>> {
        let mut readers = Vec::new();
        for tenant_number in 0..CLIENTS {
            let session = database.try_connect(role).await?;
            if self.has_tenant {
                session.batch_execute(&format!("SET bulkhead.tenant_context = '{}'", tenant(tenant_number))).await?;
            }
            pin(&session, tenant_number).await?;
            let query = format!("SELECT balance, note FROM {table} WHERE id = $1");
            let statement = match protocol {
                Protocol::Prepared => Some(session.prepare(&query).await?),
                Protocol::Text => None,
            };
            let next = AtomicUsize::new(tenant_number);
            readers.push(Arc::new(Reader { session, table, statement, tenant: tenant_number, next }));
        }
        Ok(readers)
    }
}

/// The server's process of a session stays on one processor, those of both sides in the same way: where the system happens to put
/// eight of them on few processors makes a larger difference than what is measured. Where that cannot be done it is left.
async fn pin(session: &Client, number: usize) -> Result<()> {
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
    let processors = std::thread::available_parallelism()?.get();
    let processor = (number % processors).to_string();
    let _ = std::process::Command::new("taskset").args(["-p", "-c", &processor, &pid.to_string()]).output();
    Ok(())
}
