//! A distribution that is unpacked below `target/`, with the server, what the tests use, and a compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use pg_test::{progress, provision};

use crate::run;

/// What the build and the tests use besides the server's own packages.
const PACKAGES: &str = "pgbouncer libclang-dev gcc libc6-dev cmake procps \
                        python3-fastapi python3-uvicorn python3-psycopg python3-psycopg-pool";

const OUR_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is unpacked, and the servers that it shall have.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub major: u32,
    pub distribution: &'static str,
    /// The server of an earlier distribution beside it, where there shall be one.
    pub older: Option<(u32, &'static str)>,
}

/// One unpacked distribution.
pub struct System {
    pub wanted: Wanted,
    /// As its pg_config says.
    pub server: String,
    pub root: PathBuf,
}

/// Everything of this program's.
pub fn home() -> PathBuf {
    pg_test::target().join("servers")
}

impl System {
    /// Unpacks the distribution when that was not done with these packages, and asks for the server's version.
    pub fn prepare(wanted: Wanted) -> Result<Self> {
        let mut system = Self { wanted, server: String::new(), root: home().join(wanted.name()) };
        let packages = wanted.packages();
        if std::fs::read_to_string(system.stamp()).is_ok_and(|stamp| stamp == packages) {
            progress::say(format!("{} is in {}", wanted.distribution, system.root.display()));
        } else {
            let fetched = system.unpack().and_then(|()| system.install(&packages));
            let from = wanted.distribution;
            fetched.with_context(|| {
                format!("PostgreSQL {} is Debian {from}'s, which could not be had: it is fetched from the archive that apt knows", wanted.major)
            })?;
            std::fs::write(system.stamp(), packages)?;
        }
        system.trust_as_here()?;
        system.server = run::output(&system, &[system.pg_config(), "--version".into()])?;
        Ok(system)
    }

    pub fn pg_config(&self) -> String {
        pg_config(self.wanted.major)
    }

    pub fn older_pg_config(&self) -> Option<String> {
        self.wanted.older.map(|(major, _)| pg_config(major))
    }

    fn stamp(&self) -> PathBuf {
        self.root.with_extension("packages")
    }

    /// Into a directory of another name, so that half of one is never taken for one.
    fn unpack(&self) -> Result<()> {
        let distribution = self.wanted.distribution;
        let debootstrap = debootstrap()?;
        let unfinished = self.root.with_extension("unfinished");
        for old in [&unfinished, &self.root] {
            remove(old)?;
        }
        std::fs::create_dir_all(home())?;
        let mut command = run::apart(debootstrap.as_os_str());
        command.args(["--variant=minbase", distribution]).arg(&unfinished);
        progress::run(&format!("unpacking {distribution}"), &mut command, &self.log("debootstrap"))?;
        std::fs::rename(&unfinished, &self.root)?;
        Ok(())
    }

    fn install(&self, packages: &str) -> Result<()> {
        let etc = self.root.join("etc");
        std::fs::copy("/etc/resolv.conf", etc.join("resolv.conf")).context("copying /etc/resolv.conf")?;
        std::fs::write(etc.join("apt/apt.conf.d/90host"), how_to_fetch())?;
        if let Some((_, earlier)) = self.wanted.older {
            // Of a package that both have, the newer version is taken: only what is not here any more comes from there.
            let own = std::fs::read_to_string(etc.join("apt/sources.list")).context("reading its sources.list")?;
            let theirs = own.replace(self.wanted.distribution, earlier);
            let updates =
                theirs.replace("/debian ", "/debian-security ").replace(earlier, &format!("{earlier}-security"));
            std::fs::write(etc.join("apt/sources.list.d/earlier.list"), theirs + &updates)?;
        }
        let apt = |title: &str, arguments: &str| {
            let script = format!("DEBIAN_FRONTEND=noninteractive exec apt-get {arguments}");
            let mut command = run::inside(self, &["sh".into(), "-c".into(), script]);
            progress::run(title, &mut command, &self.log("apt"))
        };
        apt("updating its package lists", "update")?;
        apt("installing its packages", &format!("install -y --no-install-recommends {packages}"))
    }

    /// Registries may be reached by a way whose authority only this machine knows.
    fn trust_as_here(&self) -> Result<()> {
        let there = self.root.join(run::AUTHORITIES.trim_start_matches('/'));
        if Path::new(OUR_AUTHORITIES).is_file() {
            std::fs::create_dir_all(there.parent().unwrap_or(&self.root))?;
            std::fs::copy(OUR_AUTHORITIES, &there).with_context(|| format!("copying {OUR_AUTHORITIES}"))?;
        }
        Ok(())
    }

    fn log(&self, of: &str) -> PathBuf {
        pg_test::target().join(format!("logs/{of}-{}.log", self.wanted.name()))
    }
}

impl Wanted {
    /// Of its directory and its logs.
    fn name(&self) -> String {
        match self.older {
            Some((older, _)) => format!("{}-with-{older}", self.distribution),
            None => self.distribution.to_string(),
        }
    }

    fn packages(&self) -> String {
        let major = self.major;
        let own = format!("postgresql-{major} postgresql-server-dev-{major} postgresql-{major}-cron {PACKAGES}");
        match self.older {
            Some((older, _)) => format!("{own} postgresql-{older} postgresql-server-dev-{older}"),
            None => own,
        }
    }
}

fn pg_config(major: u32) -> String {
    format!("/usr/lib/postgresql/{major}/bin/pg_config")
}

fn debootstrap() -> Result<PathBuf> {
    if provision::find_program("debootstrap").is_none() {
        provision::install(&["debootstrap".into()], "another distribution is unpacked with debootstrap")?;
    }
    provision::find_program("debootstrap").context("debootstrap is not found, even after installing it")
}

/// How this machine's apt reaches the archive: a proxy, and what it does not check.
fn how_to_fetch() -> String {
    const OURS: [&str; 4] = ["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries"];
    let dump = Command::new("apt-config").args(["dump", "--format", "%F \"%v\";%n"]).output();
    let dump = dump.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_ours = |line: &&str| OURS.iter().any(|name| line.starts_with(name)) && !line.contains(" \"\";");
    dump.lines().filter(is_ours).map(|line| format!("{line}\n")).collect()
}

/// Deletes a tree that nothing is mounted in; deleting must not reach through a mount.
fn remove(dir: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    if let Some(mount) =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).find(|at| Path::new(at).starts_with(dir))
    {
        bail!("{mount} is a mount; it is not of this program's making, and {} is not deleted", dir.display());
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("deleting {}", dir.display()))?;
    }
    Ok(())
}
