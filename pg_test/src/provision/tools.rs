//! cargo, and the pgrx subcommand of the version that the extension is written against.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress;

/// The same as the `pgrx` dependency in the extension's Cargo.toml.
pub const PGRX_VERSION: &str = "0.18.1";

/// A cargo command in the root of the checkout that builds into `target_dir`.
///
/// What the outer cargo told this process about its own package would mislead the inner one, and
/// RUSTFLAGS would silently replace the linker flag with which cargo-pgrx keeps the SQL metadata.
pub fn cargo(target_dir: &std::path::Path) -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(crate::root());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_misleading) {
            command.env_remove(name);
        }
    }
    command.env("CARGO_TARGET_DIR", target_dir);
    command
}

fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn is_misleading(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_BUILD_JOBS"];
    let about_cargo = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
    about_cargo || matches!(name, "RUSTFLAGS" | "PGRX_BUILD_FLAGS" | "RUST_LOG")
}

/// A `cargo pgrx` command; the subcommand is built into `target/tools` when the machine has none of
/// the right version.
pub fn cargo_pgrx(target_dir: &std::path::Path) -> Result<Command> {
    let mut installed = cargo(target_dir);
    installed.arg("pgrx");
    if is_right_version(cargo(target_dir).args(["pgrx", "--version"])) {
        return Ok(installed);
    }
    let own = tools_dir().join("bin/cargo-pgrx");
    if !is_right_version(Command::new(&own).args(["pgrx", "--version"])) {
        build(&own)?;
    }
    // As cargo starts its subcommands: the word itself is the first argument.
    let mut command = Command::new(own);
    command.current_dir(crate::root()).arg("pgrx").env("CARGO", cargo_program());
    for (name, value) in cargo(target_dir).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command)
}

fn tools_dir() -> PathBuf {
    crate::target().join("tools")
}

fn is_right_version(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| says_right_version(&String::from_utf8_lossy(&output.stdout)))
}

fn says_right_version(text: &str) -> bool {
    text.split_whitespace().any(|word| word == PGRX_VERSION)
}

fn build(own: &std::path::Path) -> Result<()> {
    progress::say(format!("building cargo-pgrx {PGRX_VERSION} into {} (once, some minutes)", tools_dir().display()));
    let scratch = tools_dir().join("build");
    let mut command = cargo(&scratch);
    command.args(["install", "cargo-pgrx", "--locked"]);
    command.args(["--version", &format!("={PGRX_VERSION}")]);
    // The default features want OpenSSL's headers, for downloads that are never made here.
    command.arg("--no-default-features");
    // It starts other programs and copies files: to optimise it takes longer than it would ever save.
    command.arg("--debug").env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.arg("--root").arg(tools_dir());
    let log = crate::target().join("logs/cargo-pgrx.log");
    progress::run("building cargo-pgrx", &mut command, &log)?;
    std::fs::remove_dir_all(scratch).ok();
    if !is_right_version(Command::new(own).args(["pgrx", "--version"])) {
        bail!("{} is not cargo-pgrx {PGRX_VERSION}", own.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_version_counts() {
        assert!(says_right_version("cargo-pgrx 0.18.1\n"));
        assert!(!says_right_version("cargo-pgrx 0.18.10\n"));
        assert!(!says_right_version(""));
    }

    #[test]
    fn the_outer_cargos_variables_are_not_handed_on() {
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            assert!(is_misleading(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "PATH"] {
            assert!(!is_misleading(name), "{name}");
        }
    }
}
