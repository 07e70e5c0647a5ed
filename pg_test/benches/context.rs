//! context: what setting the tenant costs.
//!
//! Transactions a second of 8 clients that set the tenant and read one row by its key; the time of one switch; and the memory of
//! a server process after a million switches. The rival is a setting of the application's own, `app.tenant`, with the usual
//! policies.
//!
//! The library comes by `session_preload_libraries` of a role: so the rival's sessions run on the same server, on the same
//! table, without any of it. What it does in a session is the same as with shared preload.
//!
//! The seal is in force where the library is, as in a product, and so is part of what protect() costs here. The owner's session,
//! which changes the policies, has no preload: so unprotect() needs no bypass.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_test::bench::chart::{Axis, Bar, Bars, Curve, Group, Lines};
use pg_test::bench::memory::{self, Memory};
use pg_test::bench::policies::{Policy, Table};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::throughput::{Worker, slice};
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker, least, there_and_back};
use pg_test::{Client, Database, Preload, progress};

const TENANTS: usize = 1000;
/// Key k belongs to tenant k % TENANTS.
const KEYS: usize = 100_000;
const CLIENTS: usize = 8;

const ONCE: Policy = Policy::Usual("tenant_id = (SELECT current_setting('app.tenant', true)::uuid)");
const CAST: Policy = Policy::Usual("tenant_id = current_setting('app.tenant', true)::uuid");

const OURS: &str = "bulkhead.tenant_context";
const THEIRS: &str = "app.tenant";

/// `app` has the library, `plain` has not, and `open` has it in open mode.
const SETUP: &str = "
CREATE ROLE plain LOGIN IN ROLE app;
CREATE ROLE open LOGIN IN ROLE app;
ALTER ROLE app SET session_preload_libraries = 'bulkhead';
ALTER ROLE open SET session_preload_libraries = 'bulkhead';
ALTER ROLE open SET bulkhead.context_mode = 'open';
GRANT pg_read_all_stats TO app;
";

fn main() -> ExitCode {
    bench::main("context", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let cluster = server::start(Preload::None)?;
    let conditions = Conditions::of(&cluster, options);
    let database = cluster.database("context")?;
    progress::stage("filled a table", || fill(&database))?;
    check_roles(&database).await?;
    let mut table = Table::new("accounts", database.try_connect("owner").await?);

    let mut report = Report::new("context", "what setting the tenant costs", conditions);
    report.notes.push(
        "The rival's sessions run without the library; where it says `library loaded`, they pay for its hooks too."
            .into(),
    );
    let directory = bench::directory(options)?;
    let bars = throughput(&database, &mut table, options, &mut report).await?;
    switch(&database, options, &mut report).await?;
    let lines = million(&database, &mut table, options, &mut report).await?;

    report.publish(&directory)?;
    let charts = [directory.join("context.svg"), directory.join("context-memory.svg")];
    bars.write(&charts[0])?;
    lines.write(&charts[1])?;
    charts.iter().try_for_each(|chart| report.publish_chart(chart))?;
    Ok(())
}

fn tenant(number: usize) -> String {
    format!("6f9619ff-8b86-4d01-b42d-{:012x}", number % TENANTS)
}

fn fill(database: &Database) -> Result<()> {
    database.admin(SETUP)?;
    let script = format!(
        "SET ROLE owner;
         CREATE TABLE accounts (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, balance integer NOT NULL, note text);
         INSERT INTO accounts
         SELECT k, ('6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(k % {TENANTS}), 12, '0'))::uuid, k % 977, 'account ' || k
           FROM generate_series(0, {KEYS} - 1) AS k;
         CREATE INDEX ON accounts (tenant_id);
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) accounts;
         CHECKPOINT;"
    );
    database.admin(&script).map(drop)
}

/// The comparison is worth nothing if the library is where it should not be, or is not where it should be.
async fn check_roles(database: &Database) -> Result<()> {
    for (role, mode) in [("app", Some("locked")), ("open", Some("open")), ("plain", None)] {
        let session = database.try_connect(role).await?;
        let row = session.query_one("SELECT current_setting('bulkhead.context_mode', true)", &[]).await?;
        let found: Option<&str> = row.try_get(0)?;
        ensure!(found == mode, "bulkhead.context_mode of role {role} is {found:?}, not {mode:?}");
    }
    Ok(())
}

/// What 8 clients run: as which role, with which setting, under which policy.
struct Arm {
    name: &'static str,
    role: &'static str,
    setting: &'static str,
    policy: Policy,
}

/// Neighbours have the same policy, so that it changes as little as possible.
const ARMS: [Arm; 4] = [
    Arm { name: "protect()", role: "app", setting: OURS, policy: Policy::Protect },
    Arm { name: "(SELECT current_setting(…)::uuid), library loaded", role: "app", setting: THEIRS, policy: ONCE },
    Arm { name: "(SELECT current_setting(…)::uuid)", role: "plain", setting: THEIRS, policy: ONCE },
    Arm { name: "current_setting(…)::uuid", role: "plain", setting: THEIRS, policy: CAST },
];

async fn throughput(database: &Database, table: &mut Table, options: &Options, report: &mut Report) -> Result<Bars> {
    let rounds = options.pick(48, 2);
    // Short, so that what is compared lies close together in time.
    let length = Duration::from_millis(options.pick(250, 50));
    let mut ticker = Ticker::new(format!("transactions a second of {CLIENTS} clients"), rounds);
    let mut measured = Rounds::<{ ARMS.len() }>::default();
    let mut arms = Vec::new();
    while measured.count() < rounds {
        // Where a process happens to have its memory makes a difference: new ones every few rounds.
        if measured.count() % 6 == 0 {
            arms.clear();
            for arm in &ARMS {
                arms.push(workers(database, arm).await?);
            }
        }
        for which in there_and_back(ARMS.len()) {
            table.set(ARMS[which].policy).await?;
            // Not counted: after a change of policy every session plans anew.
            slice(&arms[which], length / 5).await?;
            measured.add(which, slice(&arms[which], length).await?);
        }
        measured.end_round();
        ticker.tick(measured.count());
    }
    for (which, arm) in ARMS.iter().enumerate().skip(1) {
        report.lines.push(Line {
            what: format!("BEGIN; SET LOCAL …; SELECT … by key; COMMIT, {CLIENTS} clients"),
            ours: Figure(measured.median(0), "tps"),
            rival: arm.name.into(),
            rival_figure: Figure(measured.median(which), "tps"),
            results: measured.ratios(0, which),
            unit: Line::TIMES,
            target: Some(Target::AtLeast(0.97)),
        });
    }
    Ok(throughput_chart(&measured))
}

async fn workers(database: &Database, arm: &Arm) -> Result<Vec<Arc<Worker>>> {
    let set_tenant: Vec<String> =
        (0..TENANTS).map(|number| format!("SET LOCAL {} = '{}'", arm.setting, tenant(number))).collect();
    let set_tenant: Arc<[String]> = set_tenant.into();
    let mut workers = Vec::new();
    for number in 0..CLIENTS {
        let session = database.try_connect(arm.role).await?;
        let statement = session.prepare("SELECT balance, note FROM accounts WHERE id = $1").await?;
        let next = AtomicUsize::new(number * KEYS / CLIENTS);
        workers.push(Arc::new(Worker { session, statement, set_tenant: Arc::clone(&set_tenant), next, keys: KEYS }));
    }
    Ok(workers)
}

fn throughput_chart(measured: &Rounds<{ ARMS.len() }>) -> Bars {
    let bars = ARMS.iter().enumerate().skip(1).map(|(which, arm)| {
        let median = measured.ratio(0, which).median;
        let label = format!("{median:.3} ×");
        Bar { name: arm.name.into(), ours: true, rounds: measured.ratios(0, which), median, label }
    });
    let lowest = (1..ARMS.len()).flat_map(|which| measured.ratios(0, which)).fold(f64::INFINITY, f64::min);
    Bars {
        title: format!("Transactions a second of {CLIENTS} clients: ours by the rival's"),
        subtitle: format!(
            "BEGIN; SET LOCAL …; SELECT … by key; COMMIT. Each dot is one of {} rounds, the band the median's interval (more is better)",
            measured.count()
        ),
        axis: "our transactions a second, as a multiple of the rival's".into(),
        // A little below the lowest dot, on a round number.
        from: (lowest.min(0.95) * 20.0).floor() / 20.0,
        groups: vec![Group {
            title: "protect() against".into(),
            target: Some((0.97, "at least 0.97".into())),
            bars: bars.collect(),
        }],
    }
}

/// The time that one SET LOCAL adds to an empty transaction of a session without the library.
async fn switch(database: &Database, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.pick(60, 3);
    let batch = 500u32;
    let script = |setting: Option<&str>| -> String {
        (0..batch)
            .map(|number| match setting {
                Some(setting) => format!("BEGIN; SET LOCAL {setting} = '{}'; COMMIT;", tenant(number as usize)),
                None => "BEGIN; COMMIT;".to_string(),
            })
            .collect()
    };
    let arms = [("app", script(Some(OURS))), ("plain", script(Some(THEIRS))), ("plain", script(None))];
    let mut sessions = Vec::new();
    for (role, _) in &arms {
        sessions.push(database.try_connect(role).await?);
    }
    let mut ticker = Ticker::new("the time of a switch", rounds);
    let mut measured = Rounds::<3>::default();
    for (session, (_, script)) in sessions.iter().zip(&arms) {
        session.batch_execute(script).await?;
    }
    while measured.count() < rounds {
        let times: [f64; 3] = least(3, async |which| {
            let start = Instant::now();
            sessions[which].batch_execute(&arms[which].1).await?;
            Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(batch))
        })
        .await?;
        times.into_iter().enumerate().for_each(|(arm, time)| measured.add(arm, time));
        measured.end_round();
        ticker.tick(measured.count());
    }
    let switches = measured.map(|[ours, theirs, empty]| [ours - empty, theirs - empty]);
    report.lines.push(Line {
        what: "one SET LOCAL, without the transaction around it".into(),
        ours: Figure(switches.median(0), "µs"),
        rival: "SET LOCAL app.tenant".into(),
        rival_figure: Figure(switches.median(1), "µs"),
        results: switches.ratios(0, 1),
        unit: Line::TIMES,
        target: None,
    });
    Ok(())
}

/// A way to switch the tenant very often in one session.
struct Switching {
    name: &'static str,
    role: &'static str,
    policy: Policy,
    /// SQL that switches `count` times, from this number on.
    script: fn(from: usize, count: usize) -> String,
    ours: bool,
}

const SWITCHING: [Switching; 3] = [
    Switching {
        name: "SET LOCAL in transactions, mode locked",
        role: "app",
        policy: Policy::Protect,
        script: |from, count| transactions(OURS, from, count),
        ours: true,
    },
    Switching {
        name: "set_tenant() in one PL/pgSQL loop, mode open",
        role: "open",
        policy: Policy::Protect,
        script: plpgsql_loop,
        ours: true,
    },
    Switching {
        name: "for comparison: SET LOCAL app.tenant, without Bulkhead",
        role: "plain",
        policy: ONCE,
        script: |from, count| transactions(THEIRS, from, count),
        ours: false,
    },
];

/// One transaction for each switch; every tenth reads under the policy.
fn transactions(setting: &str, from: usize, count: usize) -> String {
    (from..from + count)
        .map(|number| {
            let read = if number % 10 == 0 {
                format!("SELECT balance FROM accounts WHERE id = {};", number % KEYS)
            } else {
                String::new()
            };
            format!("BEGIN; SET LOCAL {setting} = '{}'; {read} COMMIT;", tenant(number))
        })
        .collect()
}

/// As many switches inside one transaction; every tenth reads under the policy, and each is checked.
fn plpgsql_loop(from: usize, count: usize) -> String {
    let to = from + count - 1;
    format!(
        "DO $$
         DECLARE
           id text;
         BEGIN
           FOR n IN {from}..{to} LOOP
             id := '6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(n % {TENANTS}), 12, '0');
             PERFORM bulkhead.set_tenant(id);
             ASSERT bulkhead.tenant_id_text() = id;
             IF n % 10 = 0 THEN
               PERFORM 1 FROM accounts a WHERE a.id = n % {KEYS};
               ASSERT FOUND;
             END IF;
           END LOOP;
         END $$"
    )
}

async fn million(database: &Database, table: &mut Table, options: &Options, report: &mut Report) -> Result<Lines> {
    let switches = options.pick(1_000_000, 10_000);
    let mut curves = Vec::new();
    for switching in &SWITCHING {
        table.set(switching.policy).await?;
        let seen = progress_of(switching, &database.try_connect(switching.role).await?, switches).await?;
        let (Some(first), Some(last)) = (seen.first(), seen.last()) else { continue };
        let growth = |memory: &Memory| megabytes(memory.private) - megabytes(first.1.private);
        let points: Vec<(f64, f64)> = seen.iter().map(|(count, memory)| (*count as f64, growth(memory))).collect();
        let most = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        if switching.ours {
            report.notes.push(format!(
                "Memory contexts of the server process, {}: {} bytes after the warm-up, {} at the end.",
                switching.name,
                grouped(first.1.contexts as f64),
                grouped(last.1.contexts as f64),
            ));
            report.lines.push(Line {
                what: format!("private memory after {} switches: {}", grouped(switches as f64), switching.name),
                ours: Figure(megabytes(last.1.private), "MB"),
                rival: "after the warm-up".into(),
                rival_figure: Figure(megabytes(first.1.private), "MB"),
                results: vec![most],
                unit: "MB more",
                target: Some(Target::AtMost(1.0)),
            });
        }
        curves.push(Curve { name: switching.name.into(), points });
    }
    Ok(Lines {
        title: format!("Memory of a server process over {} switches of the tenant", grouped(switches as f64)),
        subtitle: "growth of its private resident memory (RssAnon) since the warm-up".into(),
        across: Axis::even("switches"),
        up: Axis::even("MB more than after the warm-up"),
        limit: Some((1.0, "at most 1 MB".into())),
        curves,
    })
}

/// The memory after a warm-up, with 0 switches, and then after every twentieth part of the switches.
async fn progress_of(switching: &Switching, session: &Client, switches: usize) -> Result<Vec<(usize, Memory)>> {
    // A message of a few hundred transactions: fewer round trips, and the server is as busy with each transaction.
    let message = 500;
    let part = switches / 20;
    let mut ticker = Ticker::new(format!("memory: {}", switching.name), 20);
    let mut seen = Vec::new();
    let mut next = 0;
    for round in 0..=20 {
        let end = next + part;
        while next < end {
            let script = (switching.script)(next, message);
            session.batch_execute(&script).await.context(switching.name)?;
            next += message;
        }
        seen.push((round * part, memory::of(session).await?));
        if round > 0 {
            ticker.tick(round);
        }
    }
    Ok(seen)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
