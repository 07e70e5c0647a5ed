//! From nothing to a running server with the roles and the template database of the tests.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};

use super::guard::Guard;
use super::postmaster::Postmaster;
use super::workspace::Workspace;
use super::{Cluster, Inner, database, prefix};
use crate::progress;
use crate::provision::{self, For, Provision};

/// How the library gets into a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preload {
    /// `shared_preload_libraries`: everything works.
    #[default]
    Shared,
    /// `session_preload_libraries`: no shared memory, no workers.
    Session,
    /// Only when a function of the extension is called.
    None,
}

/// What a cluster is started with.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    preload: Preload,
    settings: Vec<(String, String)>,
    server: Option<Provision>,
    bare: bool,
}

impl Builder {
    pub fn preload(mut self, preload: Preload) -> Self {
        self.preload = preload;
        self
    }

    /// A line of postgresql.conf; a later one wins, also over the frame's own.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Another server than the one that the tests run on.
    pub fn server(mut self, server: Provision) -> Self {
        self.server = Some(server);
        self
    }

    /// As initdb leaves it: no roles and no template database, hence no [`Cluster::database`].
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Starts a new server; the first one of a process provisions for it.
    pub fn start(self) -> Result<Cluster> {
        let provision = self.server.clone().map_or_else(|| provision::provision(For::Demo), Ok)?;
        // Another program may take the free port in between.
        let mut attempt = 1;
        loop {
            match self.try_start(&provision) {
                Err(error) if attempt < 3 && is_port_taken(&error) => attempt += 1,
                result => return result,
            }
        }
    }

    fn try_start(&self, provision: &Provision) -> Result<Cluster> {
        let cluster = lay_out(provision)?;
        let workspace = cluster.workspace();
        initdb(workspace)?;
        self.configure(workspace, provision, cluster.port())?;
        cluster.start()?;
        if !self.bare {
            database::prepare_template(&cluster)?;
        }
        if crate::flag("KEEP") {
            cluster.keep();
        }
        Ok(cluster)
    }

    fn configure(&self, workspace: &Workspace, provision: &Provision, port: u16) -> Result<()> {
        let mut preloaded = Vec::new();
        let mut settings: Vec<(&str, String)> = vec![
            ("port", port.to_string()),
            ("listen_addresses", "127.0.0.1".into()),
            ("unix_socket_directories", workspace.sockets.display().to_string()),
            ("fsync", "on".into()),
            ("wal_level", "logical".into()),
            ("max_connections", "500".into()),
            ("max_worker_processes", "32".into()),
            ("max_prepared_transactions", "10".into()),
            ("shared_buffers", "256MB".into()),
            ("max_wal_size", "2GB".into()),
            // With the database's name, so that a failing test can show its own lines.
            ("log_line_prefix", "%m [%p] %d %u: ".into()),
            ("log_timezone", "UTC".into()),
            ("timezone", "UTC".into()),
        ];
        match self.preload {
            Preload::Shared => preloaded.push("bulkhead"),
            Preload::Session => settings.push(("session_preload_libraries", "bulkhead".into())),
            Preload::None => {}
        }
        if provision.pg_cron {
            preloaded.push("pg_cron");
            settings.push(("cron.database_name", "postgres".into()));
            // Its own connections would want a password or a trusted host.
            settings.push(("cron.use_background_workers", "on".into()));
        }
        settings.push(("shared_preload_libraries", preloaded.join(",")));

        let mut text = String::from("\n# Bulkhead's throwaway server\n");
        let own = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(given) {
            let value = value.replace('\'', "''");
            writeln!(text, "{name} = '{value}'")?;
        }
        let path = workspace.data.join("postgresql.conf");
        let shipped = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        std::fs::write(&path, shipped + &text)?;
        std::fs::write(workspace.data.join("pg_hba.conf"), HBA)?;
        Ok(())
    }
}

/// A directory with the server's programs, a free port, and no data yet.
pub(super) fn lay_out(provision: &Provision) -> Result<Cluster> {
    let postgres = &provision.postgres;
    let workspace = Workspace::create(|dir| prefix::inside(dir, &postgres.bindir))?;
    let guard = Guard::set(&workspace.dir)?;
    let port = free_port()?;
    // From here on the cluster ends itself when anything fails.
    let cluster = Cluster(Arc::new(Inner {
        workspace,
        provision: provision.clone(),
        port,
        postmaster: Mutex::new(Postmaster::default()),
        guard: Mutex::new(Some(guard)),
        databases: AtomicU32::new(1),
        latest: Mutex::new("postgres".to_string()),
    }));
    let workspace = cluster.workspace();
    prefix::build(&workspace.dir, postgres, &provision.extension)?;
    workspace.make_dir(&workspace.sockets)?;
    Ok(cluster)
}

/// Only the owner of the directory reaches the socket. Anyone on the machine reaches the port, so
/// no superuser is let in there.
const HBA: &str = "\
local all         all                 trust
local replication all                 trust
host  all         postgres 127.0.0.1/32 reject
host  all         all      127.0.0.1/32 trust
";

impl Cluster {
    /// Lets the server outlive this process.
    fn keep(&self) {
        if let Some(guard) = super::lock(&self.0.guard).take() {
            guard.dismiss();
        }
        progress::say(self.how_to_connect());
    }
}

fn initdb(workspace: &Workspace) -> Result<()> {
    workspace.make_dir(&workspace.data)?;
    let output = workspace
        .command(&workspace.bin("initdb"))
        .arg("-D")
        .arg(&workspace.data)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
        .stdin(Stdio::null())
        .output()
        .context("starting initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

fn is_port_taken(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("Address already in use")
}
