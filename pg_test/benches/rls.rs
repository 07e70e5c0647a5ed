//! rls: what the tenant policy costs a scan.
//!
//! Each case is one query of one table of 2,000,000 rows, for three types of tenant column: the whole table in sequence (one
//! tenant holds 90 % of it), the same with two parallel workers, and one tenant's 1 % through the index. It is run under
//! protect(), under the usual policies, and by a role that row security does not bind, with the tenant as a literal in the
//! WHERE. All are the same table, whose policies change between the measurements, and each policy has its
//! own literal right beside it.
//!
//! It is row level security alone that is measured: the server runs with `bulkhead.seal = off`. Else the role with the literal
//! would be filtered as well. What the seal costs is measured by benches/seal.rs.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use pg_test::bench::chart::{Bar, Bars, Group};
use pg_test::bench::policies::{Policy, Table};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker, least};
use pg_test::{Client, Database, Preload, progress};
use tokio_postgres::Statement;

/// A tenant column's type, and what belongs to it.
#[derive(Clone, Copy)]
struct Key {
    type_name: &'static str,
    table: &'static str,
    /// The tenant's id, as SQL text, from a small integer `n`.
    id: &'static str,
    /// The usual policy.
    cast: &'static str,
    /// The same, so that the planner calls it once: the best that can be written by hand.
    once: &'static str,
}

const KEYS: [Key; 3] = [
    Key {
        type_name: "uuid",
        table: "scan_uuid",
        id: "'6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(n), 12, '0')",
        cast: "tenant_id = current_setting('app.tenant', true)::uuid",
        once: "tenant_id = (SELECT current_setting('app.tenant', true)::uuid)",
    },
    Key {
        type_name: "text",
        table: "scan_text",
        id: "'tenant_' || n",
        cast: "tenant_id = current_setting('app.tenant', true)",
        once: "tenant_id = (SELECT current_setting('app.tenant', true))",
    },
    Key {
        type_name: "bigint",
        table: "scan_bigint",
        id: "(1000 + n)::text",
        cast: "tenant_id = current_setting('app.tenant', true)::bigint",
        once: "tenant_id = (SELECT current_setting('app.tenant', true)::bigint)",
    },
];

/// The tenant with 90 % of the rows, and one of the ten that have 1 % each.
const LARGE: u32 = 0;
const SMALL: u32 = 95;

/// A way to read the table.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    tenant: u32,
    settings: &'static str,
    /// What the plan of every arm must say: else it is not this that is measured.
    plan: &'static [&'static str],
    /// The usual policy calls its function for each row, not once for the scan.
    for_each_row: bool,
    /// How often each side is timed in a round, there and back; the least counts.
    repeats: usize,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "sequential scan",
        tenant: LARGE,
        settings: "-c enable_indexscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off \
                   -c max_parallel_workers_per_gather=0",
        plan: &["Seq Scan on"],
        for_each_row: true,
        repeats: 2,
    },
    Shape {
        name: "parallel scan, 2 workers",
        tenant: LARGE,
        settings: "-c enable_indexscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off \
                   -c max_parallel_workers_per_gather=2 -c min_parallel_table_scan_size=0 -c parallel_setup_cost=0",
        plan: &["Workers Planned: 2", "Parallel Seq Scan on"],
        for_each_row: true,
        repeats: 2,
    },
    Shape {
        name: "index scan of 1 % of the rows",
        tenant: SMALL,
        settings: "-c enable_seqscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off \
                   -c max_parallel_workers_per_gather=0",
        plan: &["Index Scan using", "Index Cond: (tenant_id ="],
        for_each_row: false,
        repeats: 10,
    },
];

/// The arms of a case: a policy, and the literal that was measured beside it.
const OURS: usize = 0;
const OURS_LITERAL: usize = 1;
const CAST: usize = 2;
const ONCE: usize = 4;
const ARMS: usize = 6;

fn main() -> ExitCode {
    bench::main("rls", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let rows = options.pick(2_000_000, 200_000);
    let rounds = options.pick(12, 2);
    let cluster = server::start_with(Preload::Shared, &[("bulkhead.seal", "off")])?;
    let conditions = Conditions::of(&cluster, options);
    let database = cluster.database("rls")?;
    let title = format!("filled 3 tables of {} rows", grouped(f64::from(rows)));
    progress::stage(&title, || KEYS.iter().try_for_each(|key| fill(&database, key, rows)))?;

    let mut report = Report::new("rls", "what the tenant policy costs a scan", conditions);
    let mut groups = Vec::new();
    for shape in &SHAPES {
        for key in &KEYS {
            let case = Case::new(&database, key, shape).await?;
            let what = format!("{}, {} tenant column", shape.name, key.type_name);
            let measured = case.measure(&what, rounds).await?;
            report.lines.extend(lines(&what, key, shape, &measured));
            groups.push(group(what, key, &measured));
        }
    }
    report.notes = vec![
        "bulkhead.seal = off: row level security alone, and a role that it does not bind.".into(),
        format!("count(*) of a table of {} rows in memory, by prepared statements; medians of {rounds} rounds.", grouped(f64::from(rows))),
        "The policies change on the same table; a literal is measured beside each. A result is ours by the other in the same round.".into(),
        "In an index scan every policy's function is called once, so the usual ones cost little there and have no target.".into(),
    ];
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    let chart = directory.join("rls.svg");
    let bars = Bars {
        title: "What the tenant policy costs a scan".into(),
        subtitle: format!(
            "{} rows; each dot is one of {rounds} rounds, measured beside the same scan with the tenant as a literal",
            grouped(f64::from(rows))
        ),
        axis: "time, as a multiple of the scan with the tenant as a literal (less is better)".into(),
        from: 0.0,
        groups,
    };
    bars.write(&chart)?;
    report.publish_chart(&chart)?;
    Ok(())
}

fn fill(database: &Database, key: &Key, rows: u32) -> Result<()> {
    let Key { type_name, table, id, .. } = key;
    // The rows of all tenants lie mixed, as they arrive in life; a hash and no pattern, which a processor would predict.
    let script = format!(
        "SET ROLE owner;
         CREATE TABLE {table} (id bigint NOT NULL, tenant_id {type_name} NOT NULL, quantity integer NOT NULL,
                               created_at timestamptz NOT NULL);
         INSERT INTO {table}
         SELECT i, ({id})::{type_name}, i % 100, timestamptz '2026-01-01' + i * interval '1 second'
           FROM (SELECT i, abs(hashint8(i)::bigint) % 100 AS h FROM generate_series(1, {rows}) i) AS numbers,
                LATERAL (SELECT CASE WHEN h < 90 THEN {LARGE} ELSE h END AS n) AS tenants;
         CREATE INDEX ON {table} (tenant_id);
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) {table};
         CHECKPOINT;"
    );
    database.admin(&script).map(drop)
}

/// One shape on one type of column.
struct Case<'a> {
    database: &'a Database,
    key: &'a Key,
    shape: &'a Shape,
    table: Table,
    id: String,
    count: i64,
}

/// The two sides of a measurement: who row security binds, and who names the tenant.
struct Side {
    session: Client,
    query: String,
    statement: Statement,
}

impl<'a> Case<'a> {
    async fn new(database: &'a Database, key: &'a Key, shape: &'a Shape) -> Result<Case<'a>> {
        let table = Table::new(key.table, database.try_connect("owner").await?);
        let admin = database.try_connect("postgres").await?;
        let id = format!("SELECT {} FROM (SELECT {} AS n) AS numbers", key.id, shape.tenant);
        let id: String = admin.query_one(&id, &[]).await?.try_get(0)?;
        let count = format!("SELECT count(*) FROM {} WHERE tenant_id::text = $1", key.table);
        let count: i64 = admin.query_one(&count, &[&id]).await?.try_get(0)?;
        ensure!(count > 0, "tenant {id} has no rows");
        Ok(Case { database, key, shape, table, id, count })
    }

    async fn measure(mut self, title: &str, rounds: usize) -> Result<Rounds<ARMS>> {
        let mut measured = Rounds::default();
        let mut ticker = Ticker::new(title, rounds);
        let policies =
            [(Policy::Protect, OURS), (Policy::Usual(self.key.cast), CAST), (Policy::Usual(self.key.once), ONCE)];
        let mut sides = self.connect().await?;
        while measured.count() < rounds {
            // Where a process happens to have its memory makes a difference, too: new ones every few rounds.
            if measured.count() % 4 == 3 {
                sides = self.connect().await?;
            }
            let forth = measured.count() % 2 == 0;
            for turn in 0..policies.len() {
                let (policy, arm) = policies[if forth { turn } else { policies.len() - 1 - turn }];
                self.table.set(policy).await?;
                for side in &sides {
                    self.check_plan(side).await?;
                    // Not timed: it plans anew.
                    self.time(side).await?;
                }
                let [bound, literal] = least(self.shape.repeats, async |which| self.time(&sides[which]).await).await?;
                measured.add(arm, bound);
                measured.add(arm + 1, literal);
            }
            measured.end_round();
            ticker.tick(measured.count());
        }
        self.table.clear().await?;
        Ok(measured)
    }

    /// In the order of the arms: the one that a policy filters, then the literal.
    async fn connect(&self) -> Result<[Side; 2]> {
        let Case { database, key, shape, id, .. } = self;
        let scan = format!("SELECT count(*) FROM {}", key.table);
        let literal = format!("{scan} WHERE tenant_id = '{id}'");
        let side = async |user, query: String| -> Result<Side> {
            let mut config = database.config(user);
            config.options(shape.settings);
            let session = Client::connect(&config).await?;
            session.batch_execute(&format!("SET bulkhead.tenant_context = '{id}'; SET app.tenant = '{id}'")).await?;
            let statement = session.prepare(&query).await?;
            Ok(Side { session, query, statement })
        };
        Ok([side("app", scan).await?, side("svc", literal).await?])
    }

    async fn check_plan(&self, side: &Side) -> Result<()> {
        let rows = side.session.query(&format!("EXPLAIN (COSTS OFF) {}", side.query), &[]).await?;
        let lines: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let plan = lines?.join("\n");
        for words in self.shape.plan {
            ensure!(plan.contains(words), "the plan of {} is not a {}:\n{plan}", side.query, self.shape.name);
        }
        Ok(())
    }

    /// Milliseconds.
    async fn time(&self, side: &Side) -> Result<f64> {
        let start = Instant::now();
        let row = side.session.query_one(&side.statement, &[]).await?;
        let elapsed = start.elapsed();
        let count: i64 = row.try_get(0)?;
        ensure!(count == self.count, "{} counted {count} rows of the tenant's {}", side.query, self.count);
        Ok(elapsed.as_secs_f64() * 1000.0)
    }
}

fn lines(what: &str, key: &Key, shape: &Shape, measured: &Rounds<ARMS>) -> [Line; 3] {
    let line = |rival: String, by: usize, target: Option<Target>| Line {
        what: what.to_string(),
        ours: Figure(measured.median(OURS), "ms"),
        rival,
        rival_figure: Figure(measured.median(by), "ms"),
        results: measured.ratios(OURS, by),
        unit: Line::TIMES,
        target,
    };
    // The promise is about the cast of a uuid, the slowest of the three.
    let far_ahead = (shape.for_each_row && key.type_name == "uuid").then_some(Target::AtMost(0.25));
    [
        line("the tenant as a literal".into(), OURS_LITERAL, Some(Target::AtMost(1.15))),
        line(short(key.cast), CAST, far_ahead),
        line(short(key.once), ONCE, None),
    ]
}

fn group(title: String, key: &Key, measured: &Rounds<ARMS>) -> Group {
    let bar = |name: String, arm: usize| {
        let ratio = measured.ratio(arm, arm + 1).median;
        let label = format!("{ratio:.2} × ({})", Figure(measured.median(arm), "ms"));
        Bar { name, ours: arm == OURS, rounds: measured.ratios(arm, arm + 1), median: ratio, label }
    };
    Group {
        title,
        target: Some((1.15, "ours at most 1.15".into())),
        bars: vec![bar("protect()".into(), OURS), bar(short(key.once), ONCE), bar(short(key.cast), CAST)],
    }
}

/// A policy's expression without what all have in common.
fn short(policy: &str) -> String {
    policy.replace("tenant_id = ", "").replace("'app.tenant', true", "…")
}
