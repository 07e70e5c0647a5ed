//! A private server in a temporary directory that never outlives its runner.
//!
//! Promises: everything it writes is below one directory; a guard process stops the server and
//! deletes that directory however the runner ends, SIGKILL included; nothing of an installed server
//! is touched. `KEEP=1` keeps the server and says how to reach it and how to end it.

mod builder;
mod copies;
mod database;
mod global;
mod guard;
mod postmaster;
mod prefix;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};

pub use builder::{Builder, Preload};
pub use database::Database;
pub use global::{end_all, session_preload, shared, with_workers, without_preload};

use crate::provision::Provision;
use guard::Guard;
use postmaster::Postmaster;
pub(crate) use postmaster::signal;
use workspace::Workspace;

/// A running server. Cheap to clone; the last clone that is dropped ends it.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    workspace: Workspace,
    provision: Provision,
    port: u16,
    postmaster: Mutex<Postmaster>,
    guard: Mutex<Option<Guard>>,
    databases: AtomicU32,
    /// The database that was made last: the one that a person wants to look into.
    latest: Mutex<String>,
}

/// A start-up option of sessions that act for all tenants. A role but a superuser needs EXECUTE on begin_bypass().
pub const PAST_THE_SEAL: &str = "-c bulkhead.bypass=test";

impl Cluster {
    /// Settings first, then `start()`.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The directory of the Unix socket: PGHOST.
    pub fn socket_dir(&self) -> &Path {
        &self.0.workspace.sockets
    }

    /// The port, of the socket's name and on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The directory that is deleted at the end.
    pub fn dir(&self) -> &Path {
        &self.0.workspace.dir
    }

    pub fn data_dir(&self) -> &Path {
        &self.0.workspace.data
    }

    /// What was found on the machine: the server's version, pg_cron, pgbouncer.
    pub fn provision(&self) -> &Provision {
        &self.0.provision
    }

    /// The whole server log so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.0.workspace.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs psql on a script, as `user`, in `database`.
    pub fn psql(&self, user: &str, database: &str, script: &str) -> Result<Output> {
        let mut command = self.client_program("psql", user, database);
        command.args(["-X", "-q"]);
        pipe_through(&mut command, script)
    }

    /// A superuser's script that has to work, past the seal; the output is unaligned rows.
    pub fn admin(&self, database: &str, script: &str) -> Result<String> {
        let mut command = self.client_program("psql", "postgres", database);
        command.env("PGOPTIONS", PAST_THE_SEAL);
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        let output = pipe_through(&mut command, script)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{script}\n{errors}");
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string())
    }

    /// One of the server's own programs (psql, pg_dump, pgbench…), told where to connect through
    /// the environment.
    pub fn client_program(&self, name: &str, user: &str, database: &str) -> Command {
        let mut command = Command::new(self.0.workspace.bin(name));
        clean_environment(&mut command);
        command
            .env("PGHOST", self.socket_dir())
            .env("PGPORT", self.port().to_string())
            .env("PGUSER", user)
            .env("PGDATABASE", database)
            .env("PGCONNECT_TIMEOUT", "10");
        command
    }

    /// The directory of the server's programs.
    pub fn bindir(&self) -> PathBuf {
        self.0.workspace.bin("")
    }

    /// A program that runs as the server's user, and ends with the server when it lies below [`Cluster::dir`].
    pub fn command_as_server(&self, program: &Path) -> Command {
        self.0.workspace.command(program)
    }

    /// Makes the server's user the owner of a directory and all that is in it.
    pub fn give_to_server(&self, dir: &Path) -> Result<()> {
        self.0.workspace.give(dir)?;
        for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() { self.give_to_server(&path)? } else { self.0.workspace.give(&path)? }
        }
        Ok(())
    }

    /// Stops the server as an administrator would (`fast`), data kept.
    pub fn stop(&self) -> Result<()> {
        self.postmaster().stop_fast()
    }

    /// The same in a hurry (`immediate`): the next start recovers, as after a crash.
    pub fn stop_immediately(&self) -> Result<()> {
        self.postmaster().stop_immediately()
    }

    /// Starts a stopped or crashed server again; after a crash it recovers first.
    pub fn start(&self) -> Result<()> {
        self.postmaster().start(&self.0.workspace)
    }

    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// `kill -9` of the postmaster and whatever of its processes does not follow at once.
    pub fn kill(&self) -> Result<()> {
        self.postmaster().kill(&self.0.workspace)
    }

    /// Runs a script, a statement a line, by a stopped server in single-user mode.
    pub fn single_user(&self, database: &str, script: &str) -> Result<Output> {
        let workspace = self.workspace();
        let mut command = workspace.command(&workspace.bin("postgres"));
        command.arg("--single").arg("-D").arg(&workspace.data).arg(database);
        pipe_through(&mut command, script)
    }

    /// How to connect and how to delete it, for a person.
    pub fn how_to_connect(&self) -> String {
        self.0.how_to_connect()
    }

    /// Stops and deletes it now, for a cluster that is never dropped. With `KEEP=1` nothing is.
    pub fn end(&self) {
        self.0.end();
    }

    fn postmaster(&self) -> MutexGuard<'_, Postmaster> {
        lock(&self.0.postmaster)
    }

    fn next_number(&self) -> u32 {
        self.0.databases.fetch_add(1, Ordering::Relaxed)
    }

    /// Paths and user for another process that shall live and die with this server.
    pub(crate) fn workspace(&self) -> &Workspace {
        &self.0.workspace
    }
}

impl Inner {
    fn end(&self) {
        match lock(&self.guard).take() {
            Some(guard) => {
                guard.finish();
                // The guard has stopped it; what is left is to let the kernel forget the child.
                lock(&self.postmaster).forget();
            }
            None if crate::flag("KEEP") && self.workspace.dir.exists() => {
                crate::progress::say(self.how_to_connect());
            }
            None => {}
        }
    }

    fn how_to_connect(&self) -> String {
        let quoted = |path: &Path| format!("'{}'", path.display());
        let postmaster = lock(&self.postmaster).pid().unwrap_or_default();
        format!(
            "KEEP is set, so this server stays (roles: app, owner, svc, postgres; \\l lists the databases)\n  \
             connect:  PGHOST={} PGPORT={} {} -U app -d {}\n  \
             delete:   kill -QUIT {postmaster}; sleep 1; rm -rf {}",
            quoted(&self.workspace.sockets),
            self.port,
            quoted(&self.workspace.bin("psql")),
            lock(&self.latest),
            quoted(&self.workspace.dir),
        )
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

/// A test that panicked while it held the lock is no reason for the next one to fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing of the person's own PostgreSQL settings reaches this server or its clients.
fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        // RUST_BACKTRACE would put a backtrace into the DETAIL of errors that come from Rust.
        if ["PG", "LC_", "RUST_"].iter().any(|prefix| name.starts_with(prefix)) || name == "LD_LIBRARY_PATH" {
            command.env_remove(name);
        }
    }
    command.env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8").env_remove("LANGUAGE");
}

fn pipe_through(command: &mut Command, input: &str) -> Result<Output> {
    use std::io::Write;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
    let stdin = child.stdin.take();
    let input = input.to_string();
    // Written from another thread: a script and its output may both be larger than a pipe.
    let writer = std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            stdin.write_all(input.as_bytes()).ok();
        }
    });
    let output = child.wait_with_output()?;
    writer.join().ok();
    Ok(output)
}

/// The path of a program that a cluster brings along. Copied by another process: a child that one of our threads starts meanwhile would inherit
/// the open file, and what is open for writing cannot be run.
pub fn copy_program(from: &Path, to: &Path) -> Result<PathBuf> {
    let copied = Command::new("cp").args([from, to]).status().context("running cp")?;
    ensure!(copied.success(), "copying {} to {}: {copied}", from.display(), to.display());
    Ok(to.to_path_buf())
}
