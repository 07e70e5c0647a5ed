//! The checks of health() that are about the server as a whole: the seal, versions, and the processes of group commits.

use crate::error::Result;
use crate::inventory::group::survey::{self, Here};
use crate::partition::Check;
use crate::pg::library::{self, Loaded};
use crate::pg::settings::{self, health as threshold};
use crate::pg::{security, spi};
use crate::seal::decision;

fn well(name: &'static str, value: &str, detail: &str) -> Result<Check> {
    Ok(Check { name, ok: true, value: value.to_owned(), detail: detail.to_owned() })
}

fn ill(name: &'static str, value: impl Into<String>, detail: impl Into<String>) -> Result<Check> {
    Ok(Check { name, ok: false, value: value.into(), detail: detail.into() })
}

/// Tables that are registered, and not shared.
pub(super) fn protected() -> Result<i64> {
    let count = security::as_extension(|| {
        spi::look(
            "SELECT count(*) FROM bulkhead.protection p JOIN pg_class c ON c.oid = p.relation WHERE NOT p.shared",
            &[],
            |row| row.get::<i64>(1),
        )
    })?;
    Ok(count.into_iter().sum())
}

/// Whether every session is sealed, where something is protected.
pub fn seal() -> Result<Check> {
    const NAME: &str = "seal";
    if decision::everywhere() {
        return well(NAME, "on", "");
    }
    let (value, why) = match library::loaded() {
        Loaded::Shared => (
            "off",
            "bulkhead.seal is off: ALTER SYSTEM RESET bulkhead.seal; SELECT pg_reload_conf() when the repair is done",
        ),
        Loaded::Session if !settings::seal() => ("off", "bulkhead.seal is off"),
        Loaded::Session => (
            "sessions only",
            "session_preload_libraries does not reach every process: append bulkhead to shared_preload_libraries",
        ),
        Loaded::OnFirstUse => (
            "not preloaded",
            "append bulkhead to shared_preload_libraries and restart: until then a statement without a tenant is no error, and superusers and BYPASSRLS roles see every tenant's rows",
        ),
    };
    let tables = protected()?;
    if tables <= threshold::unsealed() {
        return well(NAME, value, "");
    }
    ill(NAME, value, format!("{tables} protected tables are not filtered for every role: {why}"))
}

/// Whether the SQL objects and the library belong together.
pub fn version() -> Result<Check> {
    const NAME: &str = "version";
    let installed = spi::look("SELECT e.extversion FROM pg_extension e WHERE e.extname = 'bulkhead'", &[], |row| {
        row.get::<String>(1)
    })?;
    let installed = installed.into_iter().next().unwrap_or_default();
    if installed == library::VERSION {
        return well(NAME, library::VERSION, "");
    }
    ill(
        NAME,
        library::VERSION,
        format!(
            "the library is {}, the SQL objects are {installed}: ALTER EXTENSION bulkhead UPDATE, or restart the server with the matching library",
            library::VERSION
        ),
    )
}

const NOT_SHARED: &str = "bulkhead is not in shared_preload_libraries: decrement_now() is refused, and the queue waits for drain_inventory()";

/// Whether anybody counts on a worker: None is the answer where nobody does.
fn processes(name: &'static str) -> Option<Result<Check>> {
    if library::loaded() != Loaded::Shared {
        return Some(well(name, "none", NOT_SHARED));
    }
    security::is_standby().then(|| well(name, "none", "this server is a standby: it comes with the promotion"))
}

/// Whether the process is there that starts workers.
pub fn launcher() -> Result<Check> {
    const NAME: &str = "launcher";
    if let Some(none) = processes(NAME) {
        return none;
    }
    if settings::drain_databases().is_empty() {
        return well(NAME, "none", "bulkhead.drain_databases is empty: no worker is wanted");
    }
    if survey::has_launcher_at_last() {
        return well(NAME, "running", "");
    }
    ill(
        NAME,
        "missing",
        "no worker is started, and decrement_now() waits in vain: raise max_worker_processes and restart; the server log says why it could not be started",
    )
}

/// Whether each database that the setting names can have a worker.
pub fn drain_databases() -> Result<Check> {
    const NAME: &str = "drain_databases";
    if let Some(none) = processes(NAME) {
        return none;
    }
    let named: Vec<String> = settings::drain_databases().into_iter().filter(|name| name != "*").collect();
    let known = spi::look(
        "SELECT d.datname::text, d.datallowconn FROM pg_database d WHERE d.datname::text = ANY ($1)",
        &[named.clone().into()],
        |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)?)),
    )?;
    let fault = |name: &String| match known.iter().find(|(known, _)| known == name) {
        None => Some(format!("there is no database {}", spi::identifier(name))),
        Some((_, false)) => Some(format!("database {} accepts no connections", spi::identifier(name))),
        Some(_) if survey::found_nothing_in(name) => {
            Some(format!("extension bulkhead is not installed in database {}", spi::identifier(name)))
        }
        Some(_) => None,
    };
    let faults: Vec<String> = named.iter().filter_map(fault).collect();
    let value = format!("{} named", named.len());
    if faults.is_empty() {
        return well(NAME, &value, "");
    }
    ill(NAME, value, format!("{}: correct bulkhead.drain_databases and reload", faults.join("; ")))
}

/// Whether this database has a worker where one is needed.
pub fn worker() -> Result<Check> {
    const NAME: &str = "worker";
    if let Some(none) = processes(NAME) {
        return none;
    }
    match survey::here_at_last() {
        Here::AtWork => well(NAME, "running", ""),
        Here::Away => well(NAME, "none", "it is started when it is asked for"),
        Here::Unwanted => well(NAME, "none", "bulkhead.drain_databases does not name this database"),
        Here::Missing => ill(
            NAME,
            "missing",
            "it is asked for, and does not come: max_worker_processes may be used up, or the database full (datconnlimit); the server log says more",
        ),
    }
}

/// What to ask when queued orders wait.
pub fn who_drains() -> &'static str {
    match library::loaded() == Loaded::Shared && survey::here() != Here::Unwanted {
        true => "the worker cannot decide it yet: its item is locked, or see the check worker and the server log",
        false => "is drain_inventory() scheduled?",
    }
}

/// Whether there is room for callers of decrement_now().
pub fn slots() -> Result<Check> {
    const NAME: &str = "slots";
    let Some(slots) = survey::slots() else { return well(NAME, "none", NOT_SHARED) };
    let value = format!("{} of {} used", slots.used, slots.all);
    if !survey::is_littered() {
        return well(NAME, &value, "");
    }
    ill(
        NAME,
        value,
        format!(
            "{} are taken by orders that nobody waits for any more, and decrement_now() is refused (53400): find out what keeps the worker, in pg_stat_activity",
            slots.left
        ),
    )
}
