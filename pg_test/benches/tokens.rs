//! tokens: what setting a signed token costs, and what a policy that asks for a role costs.
//!
//! The time of one switch by a token that the session has verified before, beside a bare id; by a token that it sees for the first
//! time, for each algorithm, beside what the cryptography alone takes; and a scan of a million rows under has_role(), beside a
//! literal and the usual look-ups.

#[allow(dead_code)]
#[path = "../tests/suite/tokens/issuer.rs"]
mod issuer;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use issuer::{Issuer, jwks, now};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use pg_test::bench::policies::{Policy, Table};
use pg_test::bench::report::{Figure, grouped};
use pg_test::bench::server::{self, Conditions};
use pg_test::bench::{self, Line, Options, Report, Rounds, Target, Ticker, least};
use pg_test::{Client, Database, Preload, progress};
use serde_json::json;

const TENANT: &str = "6f9619ff-8b86-4d01-b42d-000000000007";

fn main() -> ExitCode {
    bench::main("tokens", async |options: &Options| measure(options).await)
}

async fn measure(options: &Options) -> Result<()> {
    let cluster = server::start(Preload::Shared)?;
    let conditions = Conditions::of(&cluster, options);
    let database = cluster.database("tokens")?;
    let issuers = [Issuer::hs("hs"), Issuer::rs("rs"), Issuer::es("es"), Issuer::ed("ed")];
    let keys = jwks(&issuers.iter().collect::<Vec<_>>());
    database.admin(&format!("ALTER SYSTEM SET bulkhead.jwks = '{keys}'; SELECT pg_reload_conf()"))?;

    let mut report = Report::new("tokens", "what a signed token costs", conditions);
    report.notes.push(format!(
        "The tokens have {} bytes (HS256), with a subject, two roles and a name.",
        token(&issuers[0], 0).len()
    ));
    seen_before(&database, &issuers, options, &mut report).await?;
    for issuer in &issuers {
        first_seen(&database, issuer, options, &mut report).await?;
    }
    policies(&database, &issuers[0], options, &mut report).await?;
    report.publish(&bench::directory(options)?)
}

/// A token of the size that sign-in services issue; `n` makes it another.
fn token(issuer: &Issuer, n: u64) -> String {
    issuer.sign(&json!({
        "iss": "https://id.example.com/", "aud": ["database"], "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "name": "Ada Lovelace",
        "tenant_id": TENANT, "roles": ["admin", "member"], "iat": now(), "exp": now() + 86_400, "jti": format!("{n:032}")
    }))
}

fn switches(values: impl Iterator<Item = String>) -> String {
    values.map(|value| format!("BEGIN; SET LOCAL bulkhead.tenant_context = '{value}'; COMMIT;")).collect()
}

/// Microseconds a statement block.
async fn time(session: &Client, script: &str, count: u32) -> Result<f64> {
    let start = Instant::now();
    session.batch_execute(script).await?;
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

/// The keys came by a reload: until the session has them.
async fn wait_for_keys(session: &Client, token: &str) -> Result<()> {
    for _ in 0..100 {
        if session.batch_execute(&switches(std::iter::once(token.to_owned()))).await.is_ok() {
            return Ok(());
        }
        session.batch_execute("ROLLBACK").await?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("the keys did not arrive")
}

async fn seen_before(database: &Database, issuers: &[Issuer], options: &Options, report: &mut Report) -> Result<()> {
    const COUNT: u32 = 500;
    let session = database.try_connect("app").await?;
    let rounds = options.pick(60, 3);
    // Ten tokens by turns, as a pooled connection sees them, and as many ids.
    let tokens: Vec<String> = (0..10).map(|n| token(&issuers[0], n)).collect();
    wait_for_keys(&session, &tokens[0]).await?;
    let scripts = [
        switches((0..COUNT as usize).map(|n| tokens[n % 10].clone())),
        switches((0..COUNT).map(|n| format!("6f9619ff-8b86-4d01-b42d-{:012x}", n % 10))),
    ];
    let mut ticker = Ticker::new("a token already seen", rounds);
    let mut measured = Rounds::<2>::default();
    while measured.count() < rounds {
        let times: [f64; 2] = least(3, async |which| time(&session, &scripts[which], COUNT).await).await?;
        times.into_iter().enumerate().for_each(|(arm, time)| measured.add(arm, time));
        measured.end_round();
        ticker.tick(measured.count());
    }
    report.lines.push(Line {
        what: "BEGIN; SET LOCAL …; COMMIT with a token already seen".into(),
        ours: Figure(measured.median(0), "µs"),
        rival: "a bare id".into(),
        rival_figure: Figure(measured.median(1), "µs"),
        results: measured.map(|[token, id]| [token - id]).values(0),
        unit: "µs more",
        target: Some(Target::AtMost(3.0)),
    });
    Ok(())
}

async fn first_seen(database: &Database, issuer: &Issuer, options: &Options, report: &mut Report) -> Result<()> {
    const COUNT: u32 = 200;
    let session = database.try_connect("app").await?;
    let rounds = options.pick(20, 2);
    let name = issuer.algorithm();
    wait_for_keys(&session, &token(issuer, 0)).await?;
    let mut next = 1;
    let mut measured = Rounds::<3>::default();
    let mut ticker = Ticker::new(format!("{name} first seen"), rounds);
    let id = switches((0..COUNT).map(|_| TENANT.to_owned()));
    while measured.count() < rounds {
        // The least of three, each of tokens that nobody has seen.
        let mut best = [f64::INFINITY; 3];
        for _ in 0..3 {
            let tokens: Vec<String> = (next..next + u64::from(COUNT)).map(|n| token(issuer, n)).collect();
            next += u64::from(COUNT);
            let alone = cryptography(issuer, &tokens)?;
            let script = switches(tokens.into_iter());
            let times = [time(&session, &script, COUNT).await?, time(&session, &id, COUNT).await?, alone];
            times.into_iter().enumerate().for_each(|(arm, time)| best[arm] = best[arm].min(time));
        }
        best.into_iter().enumerate().for_each(|(arm, time)| measured.add(arm, time));
        measured.end_round();
        ticker.tick(measured.count());
    }
    let added = measured.map(|[first, id, alone]| [first - id, *alone]);
    report.lines.push(Line {
        what: format!("SET LOCAL with an {name} token first seen, above a bare id"),
        ours: Figure(added.median(0), "µs"),
        rival: "jsonwebtoken's signature check alone".into(),
        rival_figure: Figure(added.median(1), "µs"),
        results: added.values(0),
        unit: "µs more than a bare id",
        target: (name == "HS256").then_some(Target::AtMost(15.0)),
    });
    Ok(())
}

/// What the crate takes for the signatures, in this process: microseconds a token.
fn cryptography(issuer: &Issuer, tokens: &[String]) -> Result<f64> {
    let jwk = serde_json::from_value(issuer.jwk())?;
    let key = DecodingKey::from_jwk(&jwk)?;
    let algorithm: Algorithm = issuer.algorithm().parse()?;
    let start = Instant::now();
    for token in tokens {
        let (message, signature) = token.rsplit_once('.').context("a token has dots")?;
        ensure!(crypto::verify(signature, message.as_bytes(), &key, algorithm)?, "a signature does not hold");
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / tokens.len() as f64)
}

/// A policy, and what it is called in the report.
const POLICIES: [(&str, &str); 5] = [
    ("has_role('admin')", "bulkhead.has_role('admin')"),
    ("a literal: USING (role = 'admin')", "role = 'admin'"),
    ("USING (true)", "true"),
    (
        "EXISTS (SELECT 1 FROM admins …)",
        "EXISTS (SELECT 1 FROM admins a WHERE a.user_id = current_setting('app.member', true))",
    ),
    ("a SECURITY DEFINER look-up", "is_admin()"),
];

async fn policies(database: &Database, issuer: &Issuer, options: &Options, report: &mut Report) -> Result<()> {
    let rows = options.pick(1_000_000, 50_000);
    let rounds = options.pick(12, 2);
    database.admin(&format!(
        "SET ROLE owner;
         CREATE TABLE admins (user_id text PRIMARY KEY);
         INSERT INTO admins SELECT 'user ' || n FROM generate_series(1, 1000) n;
         CREATE FUNCTION is_admin() RETURNS boolean STABLE SECURITY DEFINER LANGUAGE sql AS
           $$ SELECT EXISTS (SELECT 1 FROM admins a WHERE a.user_id = current_setting('app.member', true)) $$;
         CREATE TABLE accounts (id bigint NOT NULL, role text NOT NULL, balance integer NOT NULL);
         INSERT INTO accounts SELECT n, 'admin', n % 977 FROM generate_series(1, {rows}) n;
         RESET ROLE;
         VACUUM (FREEZE, ANALYZE) accounts;
         VACUUM (FREEZE, ANALYZE) admins;
         CHECKPOINT;"
    ))?;
    let session = database.try_connect("app").await?;
    wait_for_keys(&session, &token(issuer, 0)).await?;
    let set = format!(
        "SET max_parallel_workers_per_gather = 0; SET app.member = 'user 7'; SET bulkhead.tenant_context = '{}'",
        token(issuer, 0)
    );
    session.batch_execute(&set).await?;
    let statement = session.prepare("SELECT count(*), sum(balance) FROM accounts").await?;
    let mut table = Table::new("accounts", database.try_connect("owner").await?);
    let mut measured = Rounds::<{ POLICIES.len() }>::default();
    let mut ticker = Ticker::new("policies that ask for a role", rounds);
    while measured.count() < rounds {
        for turn in 0..POLICIES.len() {
            let arm = if measured.count() % 2 == 0 { turn } else { POLICIES.len() - 1 - turn };
            table.set(Policy::Usual(POLICIES[arm].1)).await?;
            // The first one plans anew. A look-up for each row takes long enough to be timed once.
            let repeats = if arm == 4 { 1 } else { 4 };
            let mut best = f64::INFINITY;
            for repeat in 0..=repeats {
                let start = Instant::now();
                let row = session.query_one(&statement, &[]).await?;
                let elapsed = start.elapsed().as_secs_f64() * 1000.0;
                ensure!(row.try_get::<_, i64>(0)? == i64::from(rows), "{} hid rows", POLICIES[arm].0);
                if repeat > 0 {
                    best = best.min(elapsed);
                }
            }
            measured.add(arm, best);
        }
        measured.end_round();
        ticker.tick(measured.count());
    }
    progress::say("measured the policies");
    for (arm, (name, _)) in POLICIES.iter().enumerate().skip(1) {
        report.lines.push(Line {
            what: format!(
                "a scan of {} rows under a policy USING (bulkhead.has_role('admin'))",
                grouped(f64::from(rows))
            ),
            ours: Figure(measured.median(0), "ms"),
            rival: (*name).into(),
            rival_figure: Figure(measured.median(arm), "ms"),
            results: measured.ratios(0, arm),
            unit: Line::TIMES,
            target: (arm == 1).then_some(Target::AtMost(1.2)),
        });
    }
    Ok(())
}
