//! A Debian package of the extension, for the server that it was built against.
//!
//! It holds what `cargo pgrx package` made, at its places, and depends on that server's package and on what the library is linked with, as
//! dpkg-shlibdeps finds it. It has no maintainer scripts: a library that is replaced under a running server is used after the restart.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::provision::{self, Provision};

const DESCRIPTION: &str = "multi-tenancy that is safe and fast from inside PostgreSQL
 Tenants kept apart for every role, superusers included; signed tokens;
 idempotency keys in partitions that expire at once; batched and
 group-committed inventory; rules on jsonb, compiled.
 .
 To be used it has to be in shared_preload_libraries, after which the server
 is restarted; then CREATE EXTENSION bulkhead in a database.";

/// The package in `directory`; what is in the way there is deleted.
pub fn build(provision: &Provision, directory: &Path) -> Result<PathBuf> {
    ensure_tools()?;
    let major = provision.postgres.major;
    let name = format!("postgresql-{major}-bulkhead");
    let tree = directory.join("tree");
    std::fs::remove_dir_all(directory).ok();
    for (path, content) in &provision.extension.files {
        put(&tree, path, content)?;
    }
    let documents = Path::new("/usr/share/doc").join(&name);
    put(&tree, &documents.join("copyright"), &std::fs::read(crate::root().join("LICENSE"))?)?;
    for document in ["README.md", "CHANGELOG.md"] {
        put(&tree, &documents.join(document), &std::fs::read(crate::root().join(document))?)?;
    }
    let libraries: Vec<&Path> =
        provision.extension.files.iter().map(|(path, _)| path.as_path()).filter(|path| is_library(path)).collect();
    ensure!(!libraries.is_empty(), "the extension has no library");
    for library in &libraries {
        run(Command::new("strip").arg("--strip-unneeded").arg(inside(&tree, library)))?;
    }
    let architecture = run(Command::new("dpkg").arg("--print-architecture"))?;
    let depends = format!("postgresql-{major}, {}", linked_with(directory, &tree, &libraries)?);
    let version = format!("{}-1", version(provision)?);
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {}\nMaintainer: The Bulkhead authors <bulkhead@localhost>\nInstalled-Size: {}\n\
         Depends: {depends}\nSection: database\nPriority: optional\nDescription: {DESCRIPTION}\n",
        architecture.trim(),
        kilobytes(&tree)?,
    );
    put(&tree, Path::new("/DEBIAN/md5sums"), digests(&tree)?.as_bytes())?;
    put(&tree, Path::new("/DEBIAN/control"), control.as_bytes())?;
    let package = directory.join(format!("{name}_{version}_{}.deb", architecture.trim()));
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group"]).arg(&tree).arg(&package);
    if let Some(date) = date() {
        build.env("SOURCE_DATE_EPOCH", date);
    }
    run(&mut build)?;
    Ok(package)
}

/// Two builds of a checkout are the same package: nothing in it is newer than the commit, or than Cargo.toml where git does not say when that was.
/// `SOURCE_DATE_EPOCH`, which dpkg-deb honours, goes first.
fn date() -> Option<String> {
    if std::env::var_os("SOURCE_DATE_EPOCH").is_some() {
        return None;
    }
    let of_commit = run(Command::new("git").current_dir(crate::root()).args(["log", "-1", "--format=%ct"]));
    let said =
        of_commit.or_else(|_| run(Command::new("stat").args(["-c", "%Y"]).arg(crate::root().join("Cargo.toml"))));
    Some(said.ok()?.trim().to_owned())
}

/// As the control file says it, which has it from Cargo.toml.
fn version(provision: &Provision) -> Result<String> {
    let is_control = |path: &Path| path.ends_with("bulkhead.control");
    let control = provision.extension.files.iter().find(|(path, _)| is_control(path));
    let (_, control) = control.context("the extension has no control file")?;
    let control = String::from_utf8_lossy(control);
    let version = control.lines().find_map(|line| line.strip_prefix("default_version")?.split('\'').nth(1));
    version.map(str::to_owned).context("the control file has no default_version")
}

fn ensure_tools() -> Result<()> {
    if provision::find_program("dpkg-deb").is_none() {
        bail!("a Debian package is built with dpkg-deb, which is not here");
    }
    if provision::find_program("dpkg-shlibdeps").is_none() || provision::find_program("strip").is_none() {
        provision::install(
            &["dpkg-dev".into(), "binutils".into()],
            "dpkg-shlibdeps finds what the library depends on",
        )?;
    }
    Ok(())
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "so")
}

fn inside(tree: &Path, path: &Path) -> PathBuf {
    tree.join(path.strip_prefix("/").unwrap_or(path))
}

fn put(tree: &Path, path: &Path, content: &[u8]) -> Result<()> {
    let target = inside(tree, path);
    let parent = target.parent().unwrap_or(tree);
    std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    std::fs::write(&target, content).with_context(|| format!("writing {}", target.display()))
}

/// What dpkg-shlibdeps says of the library. It wants a source package's control file to be there.
fn linked_with(directory: &Path, tree: &Path, libraries: &[&Path]) -> Result<String> {
    let source = directory.join("source");
    put(&source, Path::new("/debian/control"), b"Source: bulkhead\n\nPackage: bulkhead\nArchitecture: any\n")?;
    let mut command = Command::new("dpkg-shlibdeps");
    // The symbols of the server are found when it loads the library.
    command.current_dir(&source).args(["-O", "--warnings=0"]);
    command.args(libraries.iter().map(|library| std::path::absolute(inside(tree, library)).unwrap_or_default()));
    let said = run(&mut command)?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    depends.map(str::to_owned).with_context(|| format!("dpkg-shlibdeps says nothing of what it depends on: {said}"))
}

/// As dpkg wants it: a digest and a path without the first slash, for each file.
fn digests(tree: &Path) -> Result<String> {
    let mut lines = String::new();
    for path in files(tree)? {
        let relative = path.strip_prefix(tree).unwrap_or(&path).to_path_buf();
        let said = run(Command::new("md5sum").arg(&relative).current_dir(tree))?;
        writeln!(lines, "{}", said.trim_end()).ok();
    }
    Ok(lines)
}

fn kilobytes(tree: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in files(tree)? {
        bytes += path.metadata().with_context(|| format!("reading {}", path.display()))?.len();
    }
    Ok(bytes.div_ceil(1024))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// What it prints; its own words when it fails.
fn run(command: &mut Command) -> Result<String> {
    let output = command.env("LC_ALL", "C").output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
