//! Servers that are made from another one: a standby that follows it, and a successor that takes its data over.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Builder, Cluster, Database, builder, database};

impl Cluster {
    /// A hot standby that streams from this server and answers when this returns.
    pub fn standby(&self) -> Result<Self> {
        let standby = builder::lay_out(self.provision())?;
        let workspace = standby.workspace();
        let mut copy = workspace.command(&workspace.bin("pg_basebackup"));
        copy.args(["--username", "postgres", "--port", &self.port().to_string(), "--host"]).arg(self.socket_dir());
        copy.args(["--write-recovery-conf", "--checkpoint", "fast", "--no-sync", "--pgdata"]).arg(&workspace.data);
        run(&mut copy)?;
        let path = workspace.data.join("postgresql.conf");
        let copied = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        // Of two lines the later one counts.
        let own =
            format!("port = {}\nunix_socket_directories = '{}'\n", standby.port(), standby.socket_dir().display());
        std::fs::write(&path, copied + &own).with_context(|| format!("writing {}", path.display()))?;
        standby.start()?;
        Ok(standby)
    }

    /// `pg_upgrade`: what is in this server goes over into a new one. This one is stopped and stays so.
    pub fn upgraded_to(&self, new: Builder) -> Result<Self> {
        let new = new.bare().start()?;
        new.stop()?;
        // It wants to connect to every database.
        database::open_template(self, true)?;
        self.stop()?;
        let workspace = new.workspace();
        let bindir = |cluster: &Self| cluster.workspace().bin("postgres").parent().map(Path::to_path_buf);
        let mut upgrade = workspace.command(&workspace.bin("pg_upgrade"));
        upgrade.args(["--username", "postgres", "--socketdir"]).arg(new.socket_dir());
        for (cluster, [bin, data, port]) in [(self, ["-b", "-d", "-p"]), (&new, ["-B", "-D", "-P"])] {
            upgrade.arg(bin).arg(bindir(cluster).context("no directory of programs")?);
            upgrade.arg(data).arg(cluster.data_dir()).args([port, &cluster.port().to_string()]);
        }
        run(&mut upgrade).with_context(|| said_by_its_programs(new.data_dir()))?;
        new.start()?;
        database::open_template(&new, false)?;
        Ok(new)
    }

    /// A database that came over from another server under its name.
    pub fn existing(&self, name: &str) -> Database {
        Database { cluster: self.clone(), name: name.to_owned() }
    }
}

/// The errors in the logs that pg_upgrade names when it fails; the directory is deleted with the server.
fn said_by_its_programs(data: &Path) -> String {
    let runs = std::fs::read_dir(data.join("pg_upgrade_output.d")).into_iter().flatten().flatten();
    let logs = runs.flat_map(|run| std::fs::read_dir(run.path().join("log")).into_iter().flatten().flatten());
    let errors = logs.flat_map(|log| {
        let text = std::fs::read(log.path()).unwrap_or_default();
        let lines = String::from_utf8_lossy(&text).into_owned();
        lines.lines().filter(|line| line.contains("error:")).map(str::to_owned).collect::<Vec<_>>()
    });
    errors.collect::<Vec<_>>().join("\n")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {}", command.get_program().display()))?;
    if !output.status.success() {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        bail!("{} failed\n{}{}", command.get_program().display(), text(&output.stdout), text(&output.stderr));
    }
    Ok(())
}
