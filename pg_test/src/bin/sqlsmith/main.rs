//! `cargo run --bin sqlsmith`: random queries over protected tables, as every kind of role, under the context of one tenant.
//!
//! `cargo run --bin sqlsmith -- --seconds 900` for a quarter of an hour a role; `app`, `svc`, `owner`, `postgres` for some of the roles only; `--seed N` repeats the queries.
//! Promises: every byte that the server sends is searched for what stands in tenant B's rows only, and with the seal off the search is shown to find it; the server's log is
//! read for crashes; what succeeded is replayed beside a plain database that has A's rows alone, and what is planted there is shown to be noticed. It fails when anything of that is found.

mod canary;
mod differential;
mod exclusions;
mod ground;
mod planted;
mod proxy;
mod report;
mod smith;
mod traffic;
mod watch;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use pg_test::arguments::{number, seed};
use pg_test::{Cluster, Database, progress};

use canary::A;
use smith::{Memory, Run};
use watch::Watch;

const ROLES: [&str; 4] = ["app", "svc", "owner", "postgres"];
/// How long a superuser may take to see a foreign row when the seal is off.
const PROOF: u64 = 60;

struct Options {
    seconds: u64,
    seed: u64,
    roles: Vec<&'static str>,
}

fn main() -> ExitCode {
    progress::conclude(options().and_then(|options| run(&options)))
}

fn options() -> Result<Options> {
    let mut options = Options { seconds: 60, seed: seed()?, roles: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => options.seconds = number(&argument, &mut arguments)?,
            "--seed" => options.seed = number(&argument, &mut arguments)?,
            name => match ROLES.into_iter().find(|role| *role == name) {
                Some(role) => options.roles.push(role),
                None => bail!("usage: sqlsmith [--seconds N] [--seed N] [{}]", ROLES.join("|")),
            },
        }
    }
    if options.roles.is_empty() {
        options.roles = ROLES.to_vec();
    }
    Ok(options)
}

fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Runtime::new()?;
    let builder = Cluster::builder().setting("bulkhead.drain_databases", "").setting("log_min_messages", "error");
    // A superuser's random function calls can ask for any amount of memory that the machine would try to give.
    let builder = builder.setting("log_min_error_statement", "panic").setting("work_mem", "4MB");
    let cluster = progress::stage("started a server", || builder.start())?;
    let program = smith::ensure(&cluster)?;
    let db = progress::stage("filled the tables", || runtime.block_on(ground::prepare(&cluster)))?;
    progress::say(format!("seed {}", options.seed));
    prove(&cluster, &db, &program, options.seed)?;

    for role in ROLES {
        let open = runtime.block_on(ground::statistics_are_open_to(&db, role))?;
        let excluded = exclusions::reason(role, "select from pg_stats").is_some();
        ensure!(open == excluded, "pg_stats shows B's values to {role}: {open}; excluded: {excluded}");
    }

    let kept = cluster.dir().join("queries");
    let mut roles = Vec::new();
    {
        let _traffic = runtime.block_on(traffic::start(&db))?;
        // Two at a time: they lock each other's rows, and more would not be faster.
        for pair in options.roles.chunks(2) {
            let started: Vec<_> =
                pair.iter().map(|role| attack(role, &cluster, &db, &program, &kept, options)).collect::<Result<_>>()?;
            for attack in started {
                let attacked = attack.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
                report::role(&attacked.0, &attacked.1);
                roles.push(attacked.0);
            }
        }
    }
    let crashes = report::crashes(&cluster.log());
    let mut queries = Vec::new();
    for role in &options.roles {
        queries.extend(std::fs::read(kept.with_extension(*role)).unwrap_or_default());
    }
    let limit = Duration::from_secs((options.seconds * options.roles.len() as u64 / 8).clamp(20, 120));
    let compared = runtime.block_on(differential::run(&db, &queries, limit))?;
    Ok(report::all(&cluster, &roles, &crashes, &compared))
}

/// With the seal off a superuser sees foreign rows, and the search says so; before that nothing it says is believed.
fn prove(cluster: &Cluster, db: &Database, program: &Path, seed: u64) -> Result<()> {
    let watch = Arc::new(Watch::new("postgres"));
    let socket = proxy::start(cluster, &watch)?;
    let seal = |to: &str| -> Result<()> {
        db.admin(&format!("ALTER SYSTEM SET bulkhead.seal = {to}"))?;
        db.admin("SELECT pg_reload_conf(); SELECT pg_sleep(0.5)")?;
        ensure!(db.admin("SHOW bulkhead.seal")? == to, "bulkhead.seal is not {to}");
        Ok(())
    };
    watch.found().shown = ground::shown(A[0]);
    seal("off")?;
    let run = Run { role: "postgres", tenant: A[0], catalogs: false, seed, seconds: PROOF };
    let start = Instant::now();
    run.play(program, &socket, db, &watch, || watch.found().canaries > 0)?;
    seal("on")?;
    std::fs::remove_dir_all(socket)?;
    let found = watch.found();
    let Some(leak) = found.leaks.first() else {
        bail!("with the seal off nothing was found in {} queries: the search is broken", found.queries)
    };
    let seconds = start.elapsed().as_secs_f64();
    progress::say(format!(
        "with the seal off: {} after {} queries and {seconds:.1} s, as it should be",
        leak.needle, found.queries
    ));
    Ok(())
}

type Attack = std::thread::JoinHandle<Result<(Arc<Watch>, Vec<(String, Memory)>)>>;

/// One role's share of the time: as A by uuid, as A by number, and over the server's catalogs too.
fn attack(
    role: &'static str,
    cluster: &Cluster,
    db: &Database,
    program: &Path,
    kept: &Path,
    options: &Options,
) -> Result<Attack> {
    let watch = Arc::new(Watch::new(role));
    let socket = proxy::start(cluster, &watch)?;
    let (db, program, kept): (Database, PathBuf, PathBuf) = (db.clone(), program.to_owned(), kept.with_extension(role));
    // Each role has queries of its own.
    let number = ROLES.iter().position(|known| *known == role).unwrap_or(0) as u64;
    let (seed, seconds) = (options.seed + 10 * number, options.seconds / 3);
    Ok(std::thread::spawn(move || {
        let mut memory = Vec::new();
        let file = File::create(&kept)?;
        for (number, (tenant, catalogs)) in [(A[0], false), (A[1], false), (A[0], true)].into_iter().enumerate() {
            watch.found().shown = ground::shown(tenant);
            watch.found().keep = if catalogs { None } else { Some((file.try_clone()?, tenant.to_string())) };
            let run = Run { role, tenant, catalogs, seed: seed + number as u64, seconds: seconds.max(5) };
            let title = format!("{tenant}{}", if catalogs { " and catalogs" } else { "" });
            memory.push((title, run.play(&program, &socket, &db, &watch, || false)?));
        }
        Ok((watch, memory))
    }))
}
