//! Builds the extension with `cargo pgrx package` when it changed, and reads what was built.
//!
//! A stamp beside the package is a hash of everything that the build reads. The files are read into
//! memory while the lock is held, so a build by another run never changes them under this one.
//! Each major version has a target directory of its own: the next build of one never undoes another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Postgres, libclang, tools};
use crate::progress;

/// The files of the built extension, by their absolute path on a server.
#[derive(Debug)]
pub struct Extension {
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// The built extension; built first when anything it is made of has changed.
pub fn ensure(postgres: &Postgres) -> Result<Extension> {
    let build = Build::of(postgres);
    let stamp = stamp(postgres)?;
    let built = std::fs::read_to_string(build.stamp()).unwrap_or_default();
    if built == stamp {
        let extension = build.read()?;
        if !extension.files.is_empty() {
            return Ok(extension);
        }
    }
    build.run(postgres)?;
    let extension = build.read()?;
    if extension.files.is_empty() {
        bail!("cargo pgrx made no files in {}", build.package().display());
    }
    std::fs::write(build.stamp(), stamp).with_context(|| format!("writing {}", build.stamp().display()))?;
    Ok(extension)
}

/// Clippy over the extension, with the features and in the directory of its build.
pub fn lint(postgres: &Postgres) -> Result<()> {
    libclang::ensure()?;
    let build = Build::of(postgres);
    build.write_config(postgres)?;
    let mut command = tools::cargo(&build.target());
    // cargo-pgrx builds with this flag; without it the next build would find everything changed.
    command.args(["--config", KEEP_SECTIONS]);
    command.args(["clippy", "--quiet", "-p", "bulkhead", "--lib", "--release"]);
    command.args(["--no-default-features", "--features", &build.feature()]);
    command.args(["--", "-D", "warnings"]);
    build.environment(&mut command);
    let status = command.status().context("starting cargo clippy")?;
    if !status.success() {
        bail!("clippy is not content with the extension");
    }
    Ok(())
}

const KEEP_SECTIONS: &str = "target.'cfg(all(target_family = \"unix\", not(target_os = \"macos\")))'\
                             .rustflags = [\"-C\", \"link-arg=-Wl,--no-gc-sections\"]";

struct Build {
    major: u32,
    dir: PathBuf,
}

impl Build {
    fn of(postgres: &Postgres) -> Self {
        Self { major: postgres.major, dir: crate::target().join(format!("pg{}", postgres.major)) }
    }

    fn target(&self) -> PathBuf {
        self.dir.join("build")
    }

    fn package(&self) -> PathBuf {
        self.dir.join("package")
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("stamp")
    }

    fn pgrx_home(&self) -> PathBuf {
        self.dir.join("pgrx")
    }

    fn feature(&self) -> String {
        format!("pg{}", self.major)
    }

    fn run(&self, postgres: &Postgres) -> Result<()> {
        libclang::ensure()?;
        let mut command = tools::cargo_pgrx(&self.target())?;
        self.write_config(postgres)?;
        std::fs::remove_file(self.stamp()).ok();
        std::fs::remove_dir_all(self.package()).ok();
        self.forget_last_build();
        command.args(["package", "-p", "bulkhead", "--no-default-features"]);
        command.args(["--features", &self.feature()]);
        command.arg("--pg-config").arg(&postgres.pg_config);
        command.arg("--out-dir").arg(self.package());
        self.environment(&mut command);
        let log = crate::target().join(format!("logs/extension-pg{}.log", self.major));
        progress::run("building the extension", &mut command, &log)
    }

    /// The stamp has seen other content. cargo goes by file times, which a restored checkout or an
    /// unpacked archive may have older than the last build: it is not left the choice.
    fn forget_last_build(&self) {
        let fingerprints = self.target().join("release/.fingerprint");
        for entry in std::fs::read_dir(fingerprints).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("bulkhead-") {
                std::fs::remove_dir_all(entry.path()).ok();
            }
        }
    }

    fn environment(&self, command: &mut Command) {
        command.env("PGRX_HOME", self.pgrx_home());
    }

    /// cargo-pgrx wants to know where each server is; it watches the file's time, so an unchanged
    /// one is left alone.
    fn write_config(&self, postgres: &Postgres) -> Result<()> {
        let path = self.pgrx_home().join("config.toml");
        let pg_config = postgres.pg_config.to_string_lossy();
        let text = format!("[configs]\npg{} = {pg_config:?}\n", self.major);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        std::fs::create_dir_all(self.pgrx_home())
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))
    }

    fn read(&self) -> Result<Extension> {
        let mut files = Vec::new();
        let package = self.package();
        if package.is_dir() {
            for path in files_under(&package)? {
                let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
                let inside = path.strip_prefix(&package).unwrap_or(&path);
                files.push((Path::new("/").join(inside), content));
            }
        }
        Ok(Extension { files })
    }
}

/// A hash of all that the build reads. It need not be the same from one Rust version to the next.
fn stamp(postgres: &Postgres) -> Result<String> {
    let root = crate::root();
    let mut paths = Vec::new();
    for name in ["Cargo.toml", "Cargo.lock", "bulkhead.control"] {
        paths.push(root.join(name));
    }
    for dir in [".cargo", "src", "sql"] {
        let dir = root.join(dir);
        if dir.is_dir() {
            paths.extend(files_under(&dir)?);
        }
    }
    let mut hasher = DefaultHasher::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        path.strip_prefix(root).unwrap_or(path).hash(&mut hasher);
        std::fs::read(path).with_context(|| format!("reading {}", path.display()))?.hash(&mut hasher);
    }
    let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("-vV")
        .current_dir(root)
        .output()
        .context("running rustc -vV")?;
    rustc.stdout.hash(&mut hasher);
    tools::PGRX_VERSION.hash(&mut hasher);
    Ok(format!("{:016x}\n{}\n{}\n", hasher.finish(), postgres.version, postgres.pg_config.display()))
}

/// Every file below a directory, in a fixed order.
fn files_under(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    let listing = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for entry in listing {
        entries.push(entry?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
