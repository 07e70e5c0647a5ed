//! How the server, or one of its processes, comes to its end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Random;
use crate::cluster::signal;
use crate::{Cluster, Database};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// SIGKILL of everything.
    Server,
    /// The worker that commits for all callers, and drains.
    Worker,
    Immediate,
    /// A session of a client; its end restarts all processes.
    Backend,
    Launcher,
    /// As an administrator would.
    Restart,
    /// The same processes by SIGTERM, which the others outlive.
    BackendTerminated,
    WorkerTerminated,
    LauncherTerminated,
    /// A process of the server's own.
    Checkpointer,
}

/// The hardest first: a short run has those.
pub const ALL: [Kill; 10] = [
    Kill::Server,
    Kill::Worker,
    Kill::Immediate,
    Kill::Backend,
    Kill::Launcher,
    Kill::Restart,
    Kill::WorkerTerminated,
    Kill::BackendTerminated,
    Kill::LauncherTerminated,
    Kill::Checkpointer,
];

impl Kill {
    pub fn name(self) -> &'static str {
        match self {
            Kill::Server => "server killed",
            Kill::Worker => "worker killed",
            Kill::Immediate => "immediate shutdown",
            Kill::Backend => "session killed",
            Kill::Launcher => "launcher killed",
            Kill::Restart => "restart",
            Kill::BackendTerminated => "session terminated",
            Kill::WorkerTerminated => "worker terminated",
            Kill::LauncherTerminated => "launcher terminated",
            Kill::Checkpointer => "checkpointer killed",
        }
    }

    /// What the titles of the processes hold, and the signal.
    fn victim(self) -> (&'static str, &'static str) {
        match self {
            Kill::Worker => ("bulkhead worker", "-KILL"),
            Kill::WorkerTerminated => ("bulkhead worker", "-TERM"),
            Kill::Launcher => ("bulkhead launcher", "-KILL"),
            Kill::LauncherTerminated => ("bulkhead launcher", "-TERM"),
            Kill::Checkpointer => ("checkpointer", "-KILL"),
            Kill::BackendTerminated => ("[local]", "-TERM"),
            _ => ("[local]", "-KILL"),
        }
    }
}

/// Whether there was anything to kill.
pub async fn kill(kind: Kill, cluster: &Cluster, random: &mut Random) -> Result<bool> {
    match kind {
        Kill::Server => {
            cluster.kill()?;
            cluster.start()?;
        }
        Kill::Immediate => {
            cluster.stop_immediately()?;
            cluster.start()?;
        }
        Kill::Restart => cluster.restart()?,
        _ => {
            let (title, name) = kind.victim();
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                let found = processes(cluster, title);
                if !found.is_empty() {
                    // It may end by itself in this very moment.
                    return Ok(signal(name, found[random.below(found.len() as u64) as usize]).is_ok());
                }
                if Instant::now() > deadline {
                    return Ok(false);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(true)
}

/// Of the server's processes, those whose title says that.
fn processes(cluster: &Cluster, title: &str) -> Vec<u32> {
    let says = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with("postgres: ") && line.contains(title)
    };
    cluster.workspace().processes().into_iter().filter(says).collect()
}

/// A postmaster that has lost a process takes a moment to notice.
pub async fn wait_until_there(db: &Database) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(150)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(client) = db.try_connect("app").await
            && client.simple_query("SELECT 1").await.is_ok()
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the server did not come back within a minute");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process that answers may still be one of the doomed; this asks for one that stays.
pub async fn session(config: &tokio_postgres::Config) -> Result<crate::Client> {
    for _ in 0..200 {
        if let Ok(client) = crate::Client::connect(config).await
            && client.simple_query("SELECT 1").await.is_ok()
        {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    crate::Client::connect(config).await.context("the server is not there")
}
