//! Finds or installs what a build needs, and builds the extension when it changed.
//!
//! Promises: the second run starts in seconds, because nothing is run that did not change. Two runs
//! at once are safe: one provisions while the other waits, and each takes its own copy of the built
//! files. Outside `target/` nothing is written but packages of the distribution, and those only
//! after saying what and why.

mod clients;
mod extension;
mod libclang;
mod packages;
mod postgres;
mod tools;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Error, Result};

pub use clients::{Clients, Node, copy_dir};
pub use extension::Extension;
pub use packages::{find_program, install, is_root};
pub use postgres::Postgres;

use crate::progress;

/// What a run needs beyond the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A server with the extension.
    Demo,
    /// Also pg_cron, pgbouncer, and what the examples of the documentation need, where they can be had.
    Tests,
}

/// What was found and built. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provision {
    pub postgres: Postgres,
    pub extension: Arc<Extension>,
    /// Whether pg_cron is installed for this server.
    pub pg_cron: bool,
    /// The pgbouncer program, where there is one.
    pub pgbouncer: Option<PathBuf>,
    /// A Python that has what docs/examples imports; looked for by tests only.
    pub python: Option<PathBuf>,
    /// What docs/examples/clients runs with; installed for tests only.
    pub clients: Option<Clients>,
}

/// Makes sure that everything is there, once in a process; says what it does.
pub fn provision(purpose: For) -> Result<Provision> {
    static DONE: OnceLock<Result<Provision, String>> = OnceLock::new();
    DONE.get_or_init(|| run(purpose).map_err(|error| format!("{error:#}"))).clone().map_err(Error::msg)
}

fn run(purpose: For) -> Result<Provision> {
    let _lock = lock()?;
    let postgres = progress::stage("looked for PostgreSQL", postgres::ensure)?;
    progress::say(format!("{} in {}", postgres.version, postgres.bindir.display()));
    if purpose == For::Tests {
        packages::ensure_companions(&postgres);
    }
    let clients = (purpose == For::Tests).then(clients::begin);
    let extension = progress::stage("extension ready", || extension::ensure(&postgres))?;
    Ok(Provision {
        pg_cron: postgres.has_pg_cron(),
        pgbouncer: packages::find_program("pgbouncer"),
        python: if purpose == For::Tests { packages::find_python() } else { None },
        clients: clients.map(clients::Installing::wait),
        postgres,
        extension: Arc::new(extension),
    })
}

/// Another server that is installed, with the extension built for it: the older one of an upgrade.
pub fn another(pg_config: &Path) -> Result<Provision> {
    let _lock = lock()?;
    let postgres = postgres::chosen(pg_config)?;
    let extension = progress::stage("extension for the other server ready", || extension::ensure(&postgres))?;
    Ok(Provision {
        pg_cron: postgres.has_pg_cron(),
        extension: Arc::new(extension),
        postgres,
        pgbouncer: None,
        python: None,
        clients: None,
    })
}

/// Whether pg_partman is there for this server; installs it where that may be. A cluster that is started later has it.
pub fn pg_partman(provision: &Provision) -> bool {
    let installed = || -> Result<bool> {
        let _lock = lock()?;
        packages::ensure_pg_partman(&provision.postgres);
        Ok(provision.postgres.has_pg_partman())
    };
    installed().unwrap_or(false)
}

/// Runs clippy over the extension with the settings, and in the directory, of its build.
pub fn lint_extension() -> Result<()> {
    let _lock = lock()?;
    let postgres = postgres::ensure()?;
    extension::lint(&postgres)
}

/// Held while anything under `target/` is provisioned, by one run at a time.
fn lock() -> Result<File> {
    let path = crate::target().join("provision.lock");
    std::fs::create_dir_all(crate::target()).with_context(|| format!("creating {}", crate::target().display()))?;
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::say("another run is building; waiting for it");
        file.lock().with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}
