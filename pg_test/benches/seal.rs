//! seal: what it costs to be filtered whatever the role, and what observe() costs.
//!
//! Point SELECTs of 8 clients in autocommit, prepared and as plain text, the tenant set once a session: on a sealed table, against
//! the same policy without the seal; on a table that is not protected, in a database where 50 others are, against sessions without
//! the library; and on an observed table without a tenant, against the same table unobserved. Then a superuser's count of a
//! sealed table, against the same with a bypass and the tenant as a literal.
//!
//! For the first two the library comes by `session_preload_libraries` of a role: its sessions are sealed. A role without it gets the
//! library from the first call of the policy's function, too late for the seal: that is plain row level security
//! with our policy. observe() and the superuser's count run on a server with shared preload.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pg_test::bench::chart::{Bar, Bars, Group};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::throughput::{Work, slice};
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker, least, there_and_back};
use pg_test::{Client, Database, Preload, progress};
use tokio_postgres::{SimpleQueryMessage, Statement};

const TENANTS: usize = 1000;
/// Key k belongs to tenant k % TENANTS.
const KEYS: usize = 100_000;
const CLIENTS: usize = 8;
const OTHERS: usize = 50;

/// `app` is sealed. The others are not: `rls` is for the protected table, and `plain` must never meet the library.
const ROLES: &str = "
CREATE ROLE rls LOGIN IN ROLE app;
CREATE ROLE plain LOGIN IN ROLE app;
ALTER ROLE app SET session_preload_libraries = 'bulkhead';
";

fn main() -> ExitCode {
    bench::main("seal", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let sessions = server::start(Preload::None)?;
    let mut report = Report::new("seal", "what the seal and observe() cost", Conditions::of(&sessions, options));
    let mut groups = Vec::new();

    let database = sessions.database("seal")?;
    progress::stage("filled two tables, protected 51", || fill_sealed(&database))?;
    check_roles(&database).await?;
    for comparison in &COMPARISONS[..2] {
        groups.push(comparison.run(&database, options, &mut report).await?);
    }
    drop(database);
    drop(sessions);

    let shared = server::start(Preload::Shared)?;
    let database = shared.database("observe")?;
    let rows = options.pick(1_000_000, 100_000);
    progress::stage("filled two tables", || fill_observed(&database, rows))?;
    groups.push(COMPARISONS[2].run(&database, options, &mut report).await?);
    count_as_superuser(&database, rows, options, &mut report).await?;

    report.notes = vec![
        format!("SELECT of one row by its primary key in autocommit, {CLIENTS} clients; the tenant is set once a session."),
        format!("The unprotected table lies in a database with {} protected ones.", OTHERS + 1),
        "The same sessions run on the observed table and, in turns, on the same table unobserved; all their statements are naked.".into(),
    ];
    let directory = bench::directory(options)?;
    report.publish(&directory)?;
    let chart = directory.join("seal.svg");
    bars(groups).write(&chart)?;
    report.say_where(&chart);
    Ok(())
}

fn tenant(number: usize) -> String {
    format!("6f9619ff-8b86-4d01-b42d-{:012x}", number % TENANTS)
}

fn accounts(name: &str) -> String {
    format!(
        "SET ROLE owner;
         CREATE TABLE {name} (id bigint PRIMARY KEY, tenant_id uuid NOT NULL, balance integer NOT NULL, note text);
         INSERT INTO {name}
         SELECT k, ('6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(k % {TENANTS}), 12, '0'))::uuid, k % 977, 'account ' || k
           FROM generate_series(0, {KEYS} - 1) AS k;
         CREATE INDEX ON {name} (tenant_id);
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) {name};"
    )
}

fn fill_sealed(database: &Database) -> Result<()> {
    database.admin(ROLES)?;
    database.admin(&accounts("sealed"))?;
    database.admin(&accounts("bare"))?;
    let protect = format!(
        "SET ROLE owner;
         SELECT FROM bulkhead.protect('sealed');
         DO $$
         BEGIN
           FOR n IN 1..{OTHERS} LOOP
             EXECUTE format('CREATE TABLE other_%s (id bigint PRIMARY KEY, tenant_id uuid NOT NULL)', n);
             PERFORM bulkhead.protect(('other_' || n)::regclass);
           END LOOP;
         END $$;
         RESET ROLE;
         ANALYZE;
         CHECKPOINT;"
    );
    database.admin(&protect).map(drop)
}

fn fill_observed(database: &Database, rows: u32) -> Result<()> {
    database.admin(&accounts("observed"))?;
    // One tenant has 90 % of the rows; those of all lie mixed.
    let large = format!(
        "SET ROLE owner;
         CREATE TABLE large (id bigint NOT NULL, tenant_id uuid NOT NULL, quantity integer NOT NULL);
         INSERT INTO large
         SELECT i, ('6f9619ff-8b86-4d01-b42d-' || lpad(to_hex(CASE WHEN h < 90 THEN 0 ELSE h END), 12, '0'))::uuid, i % 100
           FROM (SELECT i, abs(hashint8(i)::bigint) % 100 AS h FROM generate_series(1, {rows}) AS i) AS numbers;
         CREATE INDEX ON large (tenant_id);
         SELECT FROM bulkhead.protect('large');
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) large;
         CHECKPOINT;"
    );
    database.admin(&large).map(drop)
}

/// The comparison is worth nothing if the library is where it should not be, or is not where it should be.
async fn check_roles(database: &Database) -> Result<()> {
    let read = format!("SELECT FROM sealed WHERE tenant_id = '{}'", tenant(0));
    for (role, before, after) in [("app", true, true), ("rls", false, true), ("plain", false, false)] {
        let session = database.try_connect(role).await?;
        session.batch_execute(&format!("SET bulkhead.tenant_context = '{}'", tenant(0))).await?;
        let loaded = async || -> Result<bool> {
            let row =
                session.query_one("SELECT current_setting('bulkhead.context_mode', true) IS NOT NULL", &[]).await?;
            Ok(row.try_get(0)?)
        };
        ensure!(loaded().await? == before, "the library is in sessions of role {role} from the start: {}", !before);
        if role != "plain" {
            ensure!(session.query(&read, &[]).await?.len() == KEYS / TENANTS, "role {role} does not see its rows");
        }
        ensure!(loaded().await? == after, "the library is in sessions of role {role} after a query: {}", !after);
    }
    Ok(())
}

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
    /// The same sessions, while the table is not observed.
    Unobserved,
}

struct Comparison {
    title: &'static str,
    table: &'static str,
    has_tenant: bool,
    rival: Rival,
    rival_name: &'static str,
    target: f64,
}

const COMPARISONS: [Comparison; 3] = [
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
        rival: Rival::Unobserved,
        rival_name: "the table unobserved",
        target: 0.97,
    },
];

impl Comparison {
    async fn run(&self, database: &Database, options: &Options, report: &mut Report) -> Result<Group> {
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
        let rounds = options.pick(24, 2);
        let length = Duration::from_millis(options.pick(500, 50));
        let mut ticker = Ticker::new(format!("{what}: transactions a second of {CLIENTS} clients"), rounds);
        let mut measured = Rounds::<2>::default();
        let mut sides = Vec::new();
        let watch = match self.rival {
            Rival::Role(_) => None,
            Rival::Unobserved => Some(Watch::new(self.table, database).await?),
        };
        while measured.count() < rounds {
            // Where a process happens to have its memory makes a difference: new ones every few rounds.
            if measured.count() % 4 == 0 {
                sides.clear();
                sides.push(self.readers(database, "app", protocol).await?);
                if let Rival::Role(role) = self.rival {
                    sides.push(self.readers(database, role, protocol).await?);
                }
            }
            for which in there_and_back(2) {
                if let Some(watch) = &watch {
                    watch.set(which == 0).await?;
                }
                let readers = sides.get(which).unwrap_or(&sides[0]);
                // Not counted: the first statements of a session, or after observe(), read catalogs and plan.
                slice(readers, length / 5).await?;
                measured.add(which, slice(readers, length).await?);
            }
            measured.end_round();
            ticker.tick(measured.count());
        }
        Ok(measured)
    }

    async fn readers(&self, database: &Database, role: &str, protocol: Protocol) -> Result<Vec<Arc<Reader>>> {
        let mut readers = Vec::new();
        for tenant_number in 0..CLIENTS {
            let session = database.try_connect(role).await?;
            if self.has_tenant {
                session.batch_execute(&format!("SET bulkhead.tenant_context = '{}'", tenant(tenant_number))).await?;
            }
            let query = format!("SELECT balance, note FROM {} WHERE id = $1", self.table);
            let statement = match protocol {
                Protocol::Prepared => Some(session.prepare(&query).await?),
                Protocol::Text => None,
            };
            let next = AtomicUsize::new(tenant_number);
            readers.push(Arc::new(Reader { session, table: self.table, statement, tenant: tenant_number, next }));
        }
        Ok(readers)
    }
}

/// Turns observation on and off.
struct Watch {
    table: &'static str,
    owner: Client,
    superuser: Client,
}

impl Watch {
    async fn new(table: &'static str, database: &Database) -> Result<Watch> {
        let owner = database.try_connect("owner").await?;
        Ok(Watch { table, owner, superuser: database.try_connect("postgres").await? })
    }

    /// Checks that what was observed was counted: else nothing is compared.
    async fn set(&self, on: bool) -> Result<()> {
        let Watch { table, owner, superuser } = self;
        if on {
            owner.batch_execute(&format!("SELECT bulkhead.observe('{table}')")).await?;
            return Ok(());
        }
        let count = "SELECT count(*) FROM bulkhead.naked_statements";
        let counted: i64 = superuser.query_one(count, &[]).await?.try_get(0)?;
        if counted == 0 {
            bail!("no naked statement of {table} was counted");
        }
        superuser.batch_execute("DELETE FROM bulkhead.observation").await?;
        Ok(())
    }
}

async fn count_as_superuser(database: &Database, rows: u32, options: &Options, report: &mut Report) -> Result<()> {
    let rounds = options.pick(24, 2);
    let settings = "-c max_parallel_workers_per_gather=0 -c enable_indexscan=off -c enable_indexonlyscan=off \
                    -c enable_bitmapscan=off";
    let id = tenant(0);
    let side = async |settings: String, query: String| -> Result<(Client, Statement)> {
        let mut config = database.config("postgres");
        config.options(&settings);
        let session = Client::connect(&config).await?;
        let statement = session.prepare(&query).await?;
        Ok((session, statement))
    };
    let connect = async || -> Result<[(Client, Statement); 2]> {
        Ok([
            side(format!("{settings} -c bulkhead.tenant_context={id}"), "SELECT count(*) FROM large".into()).await?,
            side(
                format!("{settings} -c bulkhead.bypass=benchmark"),
                format!("SELECT count(*) FROM large WHERE tenant_id = '{id}'"),
            )
            .await?,
        ])
    };
    let mut ticker = Ticker::new("a superuser's count of a sealed table", rounds);
    let mut measured = Rounds::<2>::default();
    let mut sides = connect().await?;
    let time = async |(session, statement): &(Client, Statement)| -> Result<(f64, i64)> {
        let start = Instant::now();
        let row = session.query_one(statement, &[]).await?;
        Ok((start.elapsed().as_secs_f64() * 1000.0, row.try_get(0)?))
    };
    while measured.count() < rounds {
        if measured.count() % 4 == 3 {
            sides = connect().await?;
        }
        let ((_, ours), (_, theirs)) = (time(&sides[0]).await?, time(&sides[1]).await?);
        ensure!(
            ours == theirs && ours > 0 && ours < i64::from(rows),
            "the sealed count is {ours}, the literal's {theirs}, of {rows} rows"
        );
        let times: [f64; 2] = least(2, async |which| Ok(time(&sides[which]).await?.0)).await?;
        times.into_iter().enumerate().for_each(|(arm, time)| measured.add(arm, time));
        measured.end_round();
        ticker.tick(measured.count());
    }
    report.lines.push(Line {
        what: format!("a superuser's count(*) of a sealed table of {} rows", grouped(f64::from(rows))),
        ours: Figure(measured.median(0), "ms"),
        rival: "a bypass and the tenant as a literal".into(),
        rival_figure: Figure(measured.median(1), "ms"),
        results: measured.ratios(0, 1),
        unit: Line::TIMES,
        target: Some(Target::AtMost(1.15)),
    });
    Ok(())
}

fn bars(groups: Vec<Group>) -> Bars {
    let lowest = groups.iter().flat_map(|group| &group.bars).flat_map(|bar| &bar.rounds).copied();
    let lowest = lowest.fold(0.95, f64::min);
    Bars {
        title: format!("Point SELECTs a second of {CLIENTS} clients: ours by the rival's"),
        subtitle: "each dot is one round, the band the median's interval (more is better)".into(),
        axis: "our transactions a second, as a multiple of the rival's".into(),
        // A little below the lowest dot, on a round number.
        from: (lowest * 20.0).floor() / 20.0,
        groups,
    }
}
