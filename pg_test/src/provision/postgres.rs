//! Finds a PostgreSQL 14 to 18 that can both run and be built against.
//!
//! The client library's development package brings a `pg_config` of its own and no server: a
//! candidate counts only when `postgres` and `postgres.h` are really where it says.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use super::{libclang, packages};

pub const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;

const DEBIAN_SERVERS: &str = "/usr/lib/postgresql";

/// One installed PostgreSQL, as its `pg_config` describes it.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub pg_config: PathBuf,
    /// As in `PostgreSQL 15.20 (Debian 15.20-0+deb12u1)`.
    pub version: String,
    pub major: u32,
    pub bindir: PathBuf,
    pub pkglibdir: PathBuf,
    pub sharedir: PathBuf,
    headers: PathBuf,
}

impl Postgres {
    fn describe(pg_config: &Path) -> Result<Self> {
        let ask = |what: &str| -> Result<String> {
            let output = Command::new(pg_config)
                .arg(what)
                .output()
                .with_context(|| format!("running {}", pg_config.display()))?;
            if !output.status.success() {
                bail!("{} {what} failed", pg_config.display());
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        let version = ask("--version")?;
        let major = major(&version).ok_or_else(|| anyhow!("{} says {version:?}", pg_config.display()))?;
        Ok(Self {
            pg_config: pg_config.to_path_buf(),
            version,
            major,
            bindir: ask("--bindir")?.into(),
            pkglibdir: ask("--pkglibdir")?.into(),
            sharedir: ask("--sharedir")?.into(),
            headers: ask("--includedir-server")?.into(),
        })
    }

    fn has_server(&self) -> bool {
        self.bindir.join("postgres").is_file()
    }

    fn has_headers(&self) -> bool {
        self.headers.join("postgres.h").is_file()
    }

    /// Whether pg_cron is installed for this server.
    pub fn has_pg_cron(&self) -> bool {
        self.pkglibdir.join("pg_cron.so").is_file() && self.sharedir.join("extension/pg_cron.control").is_file()
    }

    /// Whether pg_partman is installed for this server.
    pub fn has_pg_partman(&self) -> bool {
        self.sharedir.join("extension/pg_partman.control").is_file()
    }
}

/// The server to use, installed first where it has to be.
pub fn ensure() -> Result<Postgres> {
    if let Some(path) = std::env::var_os("PG_CONFIG").filter(|path| !path.is_empty()) {
        return chosen(Path::new(&path));
    }
    if let Some(found) = newest() {
        return Ok(found);
    }
    let servers = debian_servers();
    let (mut packages, mut why) = match servers.first() {
        Some((major, _)) => (
            vec![format!("postgresql-server-dev-{major}")],
            format!("PostgreSQL {major} is installed without the headers that a build needs"),
        ),
        None => (
            packages::default_server(),
            "there is no PostgreSQL 14 to 18 with server headers on this machine".to_string(),
        ),
    };
    // Named at once, so that whoever installs by hand does it once.
    let (others, reasons) = libclang::missing();
    packages.extend(others);
    for reason in reasons {
        why = format!("{why}; {reason}");
    }
    packages::install(&packages, &why)?;
    newest().ok_or_else(|| anyhow!("no PostgreSQL 14 to 18 with server headers, even after installing {packages:?}"))
}

/// The server that its `pg_config` was named of, installed first where that may be.
pub fn chosen(pg_config: &Path) -> Result<Postgres> {
    let found = Postgres::describe(pg_config).with_context(|| format!("the server of {}", pg_config.display()))?;
    if !SUPPORTED.contains(&found.major) {
        bail!("{} is of {}; Bulkhead supports 14 to 18", pg_config.display(), found.version);
    }
    let mut missing = Vec::new();
    if !found.has_server() {
        missing.push(format!("postgresql-{}", found.major));
    }
    if !found.has_headers() {
        missing.push(format!("postgresql-server-dev-{}", found.major));
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let why = format!(
        "the server of {} was named, but {} or {} does not exist",
        pg_config.display(),
        found.bindir.join("postgres").display(),
        found.headers.join("postgres.h").display()
    );
    if !found.bindir.starts_with(DEBIAN_SERVERS) {
        bail!("{why}");
    }
    packages::install(&missing, &why)?;
    Postgres::describe(pg_config)
}

fn newest() -> Option<Postgres> {
    let versioned = debian_servers().into_iter().map(|(_, path)| path);
    versioned
        .chain(packages::find_program("pg_config"))
        .filter_map(|path| Postgres::describe(&path).ok())
        .filter(|found| SUPPORTED.contains(&found.major))
        .filter(|found| found.has_server() && found.has_headers())
        // max_by_key would return the last of equals; the versioned path is the surer one.
        .reduce(|best, next| if next.major > best.major { next } else { best })
}

/// Debian's versioned servers that are installed, newest first, with their `pg_config`.
fn debian_servers() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN_SERVERS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(major, dir)| SUPPORTED.contains(major) && dir.join("bin/postgres").is_file())
        .map(|(major, dir)| (major, dir.join("bin/pg_config")))
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found
}

/// `PostgreSQL 15.20 (Debian …)`, `PostgreSQL 18beta1` → 15, 18.
fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("PostgreSQL ")?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn majors_are_read_from_releases_and_betas() {
        assert_eq!(major("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(major("PostgreSQL 18beta1"), Some(18));
        assert_eq!(major("pg_config 9"), None);
    }
}
