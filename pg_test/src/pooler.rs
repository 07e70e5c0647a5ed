//! A real pgbouncer in front of a cluster, in transaction mode.
//!
//! It listens only on a socket in the cluster's private directory, runs as the server's user, and is
//! a copy inside that directory: the cluster's guard ends it too, however the runner ends.
//! Some releases know no protocol-level prepared statements in this mode: use the simple protocol
//! (`run`, `rows`, `one`).

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio_postgres::Config;

use crate::cluster::{Cluster, Database};
use crate::{Client, progress};

const START: Duration = Duration::from_secs(20);

/// Ports here only name sockets, in a directory where nobody else makes any.
static NEXT_PORT: AtomicU32 = AtomicU32::new(6432);

/// A running pgbouncer; ended when dropped.
pub struct Pooler {
    /// Lives as long as what stands before it.
    _cluster: Cluster,
    dir: PathBuf,
    port: u16,
    child: Child,
}

impl Pooler {
    /// Starts one that opens at most `pool_size` server connections for each database and role.
    /// An error when the machine has no pgbouncer; [`Pooler::is_available`] tells before.
    pub fn start(cluster: &Cluster, pool_size: u32) -> Result<Self> {
        let Some(installed) = &cluster.provision().pgbouncer else {
            bail!("pgbouncer is not installed");
        };
        let workspace = cluster.workspace();
        let port = u16::try_from(NEXT_PORT.fetch_add(1, Ordering::Relaxed))?;
        let dir = workspace.dir.join(format!("pgbouncer-{port}"));
        workspace.make_dir(&dir)?;
        let program = crate::cluster::copy_program(installed, &dir.join("pgbouncer"))?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            workspace.give(&path)?;
            Ok(path)
        };
        let users = ["postgres", "owner", "app", "svc"].map(|role| format!("\"{role}\" \"\"\n"));
        write("users.txt", users.concat())?;
        let ini = write(
            "pgbouncer.ini",
            format!(
                "[databases]\n\
                 * = host='{sockets}' port={server_port}\n\
                 [pgbouncer]\n\
                 pool_mode = transaction\n\
                 default_pool_size = {pool_size}\n\
                 max_client_conn = 1000\n\
                 listen_addr =\n\
                 listen_port = {port}\n\
                 unix_socket_dir = {dir}\n\
                 auth_type = trust\n\
                 auth_file = {dir}/users.txt\n\
                 admin_users = postgres\n\
                 ignore_startup_parameters = extra_float_digits\n\
                 server_login_retry = 0.2\n\
                 logfile = {dir}/pgbouncer.log\n",
                sockets = cluster.socket_dir().display(),
                server_port = cluster.port(),
                dir = dir.display(),
            ),
        )?;
        let child = workspace
            .command(&program)
            .arg("--quiet")
            .arg(ini)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting pgbouncer")?;
        let mut pooler = Self { _cluster: cluster.clone(), dir, port, child };
        pooler.wait_until_ready()?;
        Ok(pooler)
    }

    pub fn is_available(cluster: &Cluster) -> bool {
        cluster.provision().pgbouncer.is_some()
    }

    /// How to connect through it.
    pub fn config(&self, user: &str, database: &Database) -> Config {
        let mut config = Config::new();
        config.host_path(&self.dir).port(self.port).user(user).dbname(&database.name);
        config
    }

    /// A client connection; the server's connections are shared by all of them.
    pub async fn connect(&self, user: &str, database: &Database) -> Client {
        match Client::connect(&self.config(user, database)).await {
            Ok(client) => client,
            Err(error) => panic!("connecting through pgbouncer as {user}: {error:#}"),
        }
    }

    /// Where a client program finds it: its socket's directory, and its port.
    pub fn address(&self) -> (String, String) {
        (self.dir.display().to_string(), self.port.to_string())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        let socket = self.dir.join(format!(".s.PGSQL.{}", self.port));
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("pgbouncer did not start ({status}):\n{}", self.log());
            }
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("pgbouncer was not ready after {} s:\n{}", START.as_secs(), self.log())
    }

    fn log(&self) -> String {
        progress::tail(&self.dir.join("pgbouncer.log"), 20)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
