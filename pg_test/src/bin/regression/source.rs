//! PostgreSQL's own sources: fetched as the distribution's source package, unpacked below `target/`, and what the suites load built from them.
//!
//! Nothing of it is in this repository, and apt's own lists are not touched: it is given others, below `target/`. `POSTGRES_SOURCE` names a
//! tree that is unpacked already.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use pg_test::{progress, provision};

/// One tree of sources, and what was built of it.
pub struct Source {
    pub dir: PathBuf,
    /// What is made of it is kept there.
    pub home: PathBuf,
    /// As the package calls it: it need not be the server's own minor version.
    pub version: String,
    /// `regress.so` and what else the suites load.
    pub libraries: PathBuf,
    /// Where the server's development package keeps pg_regress.
    pub runners: PathBuf,
}

/// The shared libraries that the core suite loads, and where their C files are.
const LIBRARIES: [(&str, &str); 3] =
    [("regress", "src/test/regress"), ("autoinc", "contrib/spi"), ("refint", "contrib/spi")];

impl Source {
    /// Fetches, unpacks and builds what is not there yet.
    pub fn prepare(postgres: &provision::Postgres) -> Result<Self> {
        let home = home().join(format!("pg{}", postgres.major));
        std::fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        let (dir, version) = match std::env::var_os("POSTGRES_SOURCE") {
            Some(dir) => (PathBuf::from(dir), "POSTGRES_SOURCE".to_string()),
            None => package(&home, postgres)?,
        };
        if !dir.join("src/test/regress/parallel_schedule").is_file() {
            bail!("{} has no src/test/regress: it is no source tree of PostgreSQL", dir.display());
        }
        let libraries = build(&home, &dir, &postgres.pg_config)?;
        Ok(Self { dir, home, version, libraries, runners: runners(&postgres.pg_config)? })
    }
}

/// Everything of this program's.
pub fn home() -> PathBuf {
    pg_test::target().join("regression")
}

/// The unpacked source package, and its version: the server's own, or the nearest that the archive still has.
fn package(home: &Path, postgres: &provision::Postgres) -> Result<(PathBuf, String)> {
    let dir = home.join("source");
    let stamp = home.join("source.version");
    let wanted = debian_version(&postgres.version).unwrap_or_default();
    if let Ok(version) = std::fs::read_to_string(&stamp)
        && dir.is_dir()
    {
        return Ok((dir, version));
    }
    let apt = Apt::below(home)?;
    apt.update()?;
    let name = format!("postgresql-{}", postgres.major);
    let mut versions = apt.versions(&name)?;
    // The newest first, and the server's own before all.
    versions.reverse();
    versions.sort_by_key(|version| version != wanted);
    let mut why = String::new();
    for version in versions {
        match apt.download(&name, &version) {
            Ok(archive) => {
                unpack(&archive, &dir)?;
                std::fs::write(&stamp, &version)?;
                if version != wanted {
                    progress::say(format!("the archive has no sources of {}; these are {version}", postgres.version));
                }
                return Ok((dir, version));
            }
            Err(error) => why = format!("{error:#}"),
        }
    }
    bail!(
        "the sources of {} could not be had from the distribution's archive {why}\n\
         POSTGRES_SOURCE=/path/to/postgresql-{} names a tree that is unpacked already",
        postgres.version,
        postgres.major
    )
}

/// `PostgreSQL 15.20 (Debian 15.20-0+deb12u1)`: what is in the brackets, after the distribution's name.
fn debian_version(version: &str) -> Option<&str> {
    version.split_once('(')?.1.trim_end_matches(')').split_whitespace().last()
}

/// apt-get with lists and caches of its own.
struct Apt {
    home: PathBuf,
}

impl Apt {
    /// The machine's own archives, asked for sources.
    fn below(home: &Path) -> Result<Self> {
        let home = home.join("apt");
        for dir in ["lists/partial", "archives/partial"] {
            std::fs::create_dir_all(home.join(dir)).with_context(|| format!("creating {}", home.display()))?;
        }
        let format = "$(SITE) $(RELEASE) $(COMPONENT) [$(SIGNED_BY)]";
        let listed = Command::new("apt-get")
            .args(["indextargets", "--format", format, "Created-By: Packages"])
            .output()
            .context("running apt-get, which fetches the sources of the distribution's PostgreSQL")?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut lines: Vec<String> = listed.lines().filter_map(source_line).collect();
        lines.sort();
        lines.dedup();
        std::fs::write(home.join("sources.list"), lines.concat())?;
        Ok(Self { home })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let home = self.home.display();
        for option in [
            format!("Dir::Etc::SourceList={home}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_string(),
            format!("Dir::State::Lists={home}/lists"),
            format!("Dir::Cache={home}"),
            "Dir::Cache::pkgcache=".to_string(),
            "Dir::Cache::srcpkgcache=".to_string(),
            // Where root runs this, apt's own user cannot write below `target/`.
            "APT::Sandbox::User=root".to_string(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    fn update(&self) -> Result<()> {
        let mut command = self.command("apt-get");
        progress::run("reading the archive's lists of sources", command.arg("update"), &log("apt-sources"))
    }

    fn versions(&self, package: &str) -> Result<Vec<String>> {
        let output = self.command("apt-cache").args(["showsrc", "--only-source", package]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(|line| line.strip_prefix("Version: ")).map(String::from).collect())
    }

    /// The upstream archive of that version.
    fn download(&self, package: &str, version: &str) -> Result<PathBuf> {
        let mut command = self.command("apt-get");
        command.args(["source", "--download-only", "--tar-only", &format!("{package}={version}")]);
        command.current_dir(&self.home);
        progress::run(&format!("fetching {package} {version}"), &mut command, &log("source"))?;
        let upstream = version.split('-').next().unwrap_or(version);
        let beginning = format!("{package}_{upstream}.orig.tar");
        std::fs::read_dir(&self.home)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning)))
            .with_context(|| format!("apt-get brought no {beginning}.*"))
    }
}

/// A line of an apt target, as a line of sources.list.
fn source_line(target: &str) -> Option<String> {
    let mut words = target.split_whitespace();
    let (site, release, component) = (words.next()?, words.next()?, words.next()?);
    let key = words.next().unwrap_or("[]").trim_matches(['[', ']']);
    let key = if key.starts_with('/') { format!("[signed-by={key}] ") } else { String::new() };
    Some(format!("deb-src {key}{site} {release} {component}\n"))
}

fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    if provision::find_program("bzip2").is_none() {
        provision::install(&["bzip2".into()], "PostgreSQL's sources are packed with bzip2")?;
    }
    std::fs::remove_dir_all(dir).ok();
    std::fs::create_dir_all(dir)?;
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=1", "-xf"]).arg(archive).arg("-C").arg(dir);
    progress::run("unpacking the sources", &mut tar, &log("unpack"))
}

/// By the server's own PGXS, against its headers.
fn build(home: &Path, source: &Path, pg_config: &Path) -> Result<PathBuf> {
    let dir = home.join("libraries");
    std::fs::create_dir_all(&dir)?;
    let mut names = Vec::new();
    for (name, from) in LIBRARIES {
        let file = format!("{name}.c");
        std::fs::copy(source.join(from).join(&file), dir.join(&file)).with_context(|| format!("copying {file}"))?;
        names.push(name);
    }
    let makefile = format!("MODULES = {}\nPGXS := $(shell $(PG_CONFIG) --pgxs)\ninclude $(PGXS)\n", names.join(" "));
    std::fs::write(dir.join("Makefile"), makefile)?;
    if provision::find_program("make").is_none() {
        provision::install(&["make".into()], "the suites load libraries that are built with make")?;
    }
    let mut make = Command::new("make");
    // All of it each time: it may have been built against another server's headers.
    make.args(["-s", "-B", "with_llvm=no"]).arg(format!("PG_CONFIG={}", pg_config.display())).current_dir(&dir);
    progress::run("building what the suites load", &mut make, &log("regress-libraries"))?;
    Ok(dir)
}

/// `pgxs/src/test`, which has regress/pg_regress and isolation/isolationtester.
fn runners(pg_config: &Path) -> Result<PathBuf> {
    let output = Command::new(pg_config).arg("--pgxs").output().context("running pg_config --pgxs")?;
    let makefile = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let dir = makefile.parent().and_then(Path::parent).map(|src| src.join("test"));
    dir.filter(|dir| dir.join("regress/pg_regress").is_file()).with_context(|| {
        format!("pg_regress is not beside {}: the server's development package has it", makefile.display())
    })
}

pub fn log(of: &str) -> PathBuf {
    pg_test::target().join(format!("logs/{of}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_archives_are_read_as_debian_writes_them() {
        assert_eq!(debian_version("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"), Some("15.20-0+deb12u1"));
        assert_eq!(debian_version("PostgreSQL 18.1"), None);
        assert_eq!(
            source_line("http://deb.debian.org/debian bookworm main [/usr/share/keyrings/a.gpg]").as_deref(),
            Some("deb-src [signed-by=/usr/share/keyrings/a.gpg] http://deb.debian.org/debian bookworm main\n")
        );
        assert_eq!(source_line("http://a b c []").as_deref(), Some("deb-src http://a b c\n"));
    }
}
