//! The replay of a finished key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use pg_test::bench::report::Figure;
use pg_test::bench::throughput::{Work, slice};
use pg_test::bench::{Line, Options, Report, Rounds, Target, Ticker, there_and_back};
use pg_test::{Client, Database};
use tokio_postgres::Statement;
use uuid::Uuid;

use crate::tables;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Ours,
    /// `SELECT 1`, in a session without the library.
    One,
    /// The row by its key, in a session without the library.
    ByHand,
    /// A function of the server's own in FROM, one row: what is left when the look-up costs nothing.
    InFrom,
}

const QUESTIONS: [Question; 4] = [Question::Ours, Question::One, Question::ByHand, Question::InFrom];

struct Asking {
    session: Client,
    statement: Statement,
    question: Question,
    tenant: Uuid,
    /// Finished keys of the tenant.
    keys: Vec<String>,
    next: AtomicUsize,
}

impl Asking {
    async fn new(database: &Database, question: Question, number: usize) -> Result<Asking> {
        let (role, sql) = match question {
            Question::Ours => {
                ("app", "SELECT state, status, response, attempt, fence FROM bulkhead.idempotency_claim($1)")
            }
            Question::One => ("plain", "SELECT 1"),
            Question::InFrom => ("plain", "SELECT a FROM generate_series(1, 1) a"),
            Question::ByHand => (
                "plain",
                "SELECT state, status, response, attempt, fingerprint FROM by_hand WHERE tenant = $1 AND key = $2",
            ),
        };
        let session = database.try_connect(role).await?;
        let tenant = tables::tenant(number);
        if question == Question::Ours {
            session.batch_execute(&format!("SET bulkhead.tenant_context = '{tenant}'")).await?;
        }
        let keys = database.admin(&format!(
            "SELECT ours.key FROM bulkhead.idempotency_key ours JOIN by_hand ON by_hand.tenant = '{tenant}' AND by_hand.key = ours.key
              WHERE ours.tenant = '{tenant}' AND ours.claimed_at > now() - interval '20 hours' AND ours.stage = 'f'"
        ))?;
        let keys: Vec<String> = keys.lines().map(str::to_string).collect();
        ensure!(!keys.is_empty(), "tenant {tenant} has finished keys");
        let statement = session.prepare(sql).await?;
        Ok(Asking { session, statement, question, tenant: tenant.parse()?, keys, next: AtomicUsize::new(0) })
    }
}

impl Work for Asking {
    async fn transaction(&self) -> Result<()> {
        let key = &self.keys[self.next.fetch_add(1, Ordering::Relaxed) % self.keys.len()];
        let row = match self.question {
            Question::Ours => self.session.query_one(&self.statement, &[&key]).await?,
            Question::One | Question::InFrom => self.session.query_one(&self.statement, &[]).await?,
            Question::ByHand => self.session.query_one(&self.statement, &[&self.tenant, &key]).await?,
        };
        ensure!(self.question != Question::Ours || row.try_get::<_, &str>(0)? == "replay", "key {key} is not replayed");
        Ok(())
    }
}

pub async fn measure(database: &Database, options: &Options, report: &mut Report) -> Result<()> {
    for clients in [1, 8] {
        let rounds = options.pick(20, 2);
        let length = Duration::from_millis(options.pick(150, 50));
        let mut arms = Vec::new();
        for question in QUESTIONS {
            let mut workers = Vec::new();
            for number in 0..clients {
                workers.push(Arc::new(Asking::new(database, question, number).await?));
            }
            slice(&workers, length).await?;
            arms.push(workers);
        }
        let title = format!("replay of a finished key, {clients} client{}", if clients == 1 { "" } else { "s" });
        let mut ticker = Ticker::new(title.clone(), rounds);
        let mut measured = Rounds::<4>::default();
        while measured.count() < rounds {
            for which in there_and_back(QUESTIONS.len()) {
                measured.add(which, slice(&arms[which], length).await?);
            }
            measured.end_round();
            ticker.tick(measured.count());
        }
        for (at, rival, target) in [
            (1, "SELECT 1", Some(Target::AtLeast(0.5))),
            (2, "SELECT … by key, by hand", None),
            (3, "SELECT … FROM generate_series(1, 1)", None),
        ] {
            report.lines.push(Line {
                what: title.clone(),
                ours: Figure(measured.median(0), "a second"),
                rival: rival.into(),
                rival_figure: Figure(measured.median(at), "a second"),
                results: measured.ratios(0, at),
                unit: Line::TIMES,
                target,
            });
        }
    }
    Ok(())
}
