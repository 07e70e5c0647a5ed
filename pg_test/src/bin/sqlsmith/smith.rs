//! The sqlsmith program itself: found or installed, run for a while as a role under a tenant's context, and ended.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pg_test::{Cluster, Database, cluster, provision};

use crate::watch::Watch;

const PROGRAM: &str = "sqlsmith";

/// A copy in the cluster's directory, whose guard ends every program of it.
pub fn ensure(cluster: &Cluster) -> Result<PathBuf> {
    if provision::find_program(PROGRAM).is_none() {
        provision::install(&[PROGRAM.into()], "random queries are made by sqlsmith")?;
    }
    let installed = provision::find_program(PROGRAM).context("sqlsmith is not found, even after installing it")?;
    cluster::copy_program(&installed, &cluster.dir().join(PROGRAM))
}

/// What one run of it is told.
pub struct Run<'a> {
    pub role: &'static str,
    pub tenant: &'a str,
    /// Also queries on the server's catalogs, and no comparison.
    pub catalogs: bool,
    pub seed: u64,
    pub seconds: u64,
}

/// Ends it when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Run<'_> {
    /// Until the time is over, or `enough` says so. The memory of its server processes is sampled meanwhile.
    pub fn play(
        &self,
        program: &Path,
        socket: &Path,
        db: &Database,
        watch: &Watch,
        enough: impl Fn() -> bool,
    ) -> Result<Memory> {
        let log = pg_test::target().join(format!("logs/sqlsmith-{}-{}.log", self.role, self.seed));
        std::fs::create_dir_all(log.parent().context("no directory")?)?;
        let output = std::fs::File::create(&log)?;
        let target = format!(
            "host={} port={} user={} dbname={} options='-c bulkhead.tenant_context={}'",
            socket.display(),
            db.cluster.port(),
            self.role,
            db.name,
            self.tenant
        );
        let mut command = Command::new(program);
        command.arg(format!("--target={target}")).arg(format!("--seed={}", self.seed)).arg("--verbose");
        if !self.catalogs {
            command.arg("--exclude-catalog");
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = Running(command.spawn().context("starting sqlsmith")?);
        let (start, mut memory) = (Instant::now(), Memory::default());
        let before = watch.found().queries;
        while start.elapsed() < Duration::from_secs(self.seconds) && !enough() {
            std::thread::sleep(Duration::from_millis(500));
            if let Some(status) = child.0.try_wait()? {
                anyhow::bail!("sqlsmith ended ({status}); its output is in {}", log.display());
            }
            memory.sample(&watch.found().backends.clone());
        }
        ensure!(
            watch.found().queries > before,
            "sqlsmith as {} sent no query; its output is in {}",
            self.role,
            log.display()
        );
        Ok(memory)
    }
}

/// Of the server's processes that answer, in kB that are each one's own.
#[derive(Debug, Default, Clone, Copy)]
pub struct Memory {
    pub first: u64,
    pub most: u64,
    pub last: u64,
}

impl Memory {
    fn sample(&mut self, backends: &std::collections::BTreeSet<u32>) {
        let Some(now) = backends.iter().filter_map(|pid| private(*pid)).max() else { return };
        if self.first == 0 {
            self.first = now;
        }
        self.most = self.most.max(now);
        self.last = now;
    }
}

fn private(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB")?.trim().parse().ok())
}
