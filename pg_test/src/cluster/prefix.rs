//! A relocated copy of the installed server, with our extension in it.
//!
//! PostgreSQL finds its files relative to where its program really is. So the programs are copied
//! into the same layout below the cluster's directory, everything else is linked, and the server
//! takes that for its installation: `CREATE EXTENSION bulkhead` works and no file outside is written.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::provision::{Extension, Postgres};

/// Where an installed path is inside the cluster's directory.
pub(super) fn inside(dir: &Path, installed: &Path) -> PathBuf {
    let relative = installed.strip_prefix("/").unwrap_or(installed);
    dir.join("p").join(relative)
}

pub(super) fn build(dir: &Path, postgres: &Postgres, extension: &Extension) -> Result<()> {
    copy_programs(&postgres.bindir, &inside(dir, &postgres.bindir))?;

    link_entries(&postgres.pkglibdir, &inside(dir, &postgres.pkglibdir), |name| !is_ours(name))?;

    let share = inside(dir, &postgres.sharedir);
    link_entries(&postgres.sharedir, &share, |name| name != "extension")?;
    link_entries(&postgres.sharedir.join("extension"), &share.join("extension"), |name| !is_ours(name))?;

    for (path, content) in &extension.files {
        let target = inside(dir, path);
        make_dirs(target.parent().unwrap_or(dir))?;
        std::fs::write(&target, content).with_context(|| format!("writing {}", target.display()))?;
    }
    Ok(())
}

/// A Bulkhead that is installed on the machine must not stand in for the one that was just built.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "bulkhead.so" || name == "bulkhead.control" || name.starts_with("bulkhead--")
}

fn copy_programs(from: &Path, to: &Path) -> Result<()> {
    make_dirs(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let path = entry?.path();
        // A custom installation may keep programs and libraries side by side, subdirectories too.
        if path.is_file() {
            let target = to.join(path.file_name().unwrap_or_default());
            super::copy_program(&path, &target)?;
        }
    }
    Ok(())
}

fn link_entries(from: &Path, to: &Path, wanted: impl Fn(&OsStr) -> bool) -> Result<()> {
    make_dirs(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        // The layouts of some installations are nested: bin may be inside lib.
        if wanted(&entry.file_name()) && !target.exists() {
            symlink(entry.path(), &target).with_context(|| format!("linking {}", target.display()))?;
        }
    }
    Ok(())
}

fn make_dirs(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))
}
