//! `cargo run --bin fuzz`: runs each fuzz target of pg_test/fuzz for a while, from the kept corpus on.
//!
//! `cargo run --bin fuzz -- --seconds 3600 jsonlogic` for one target and an hour; `--keep` adds what was found to be new to the kept corpus, as little of it as covers the same.
//! The jsonlogic target compares with a second engine (pg_test/fuzz/src/plain); each run plants a fault for each operator to show that it would be noticed.
//! It needs a C++ compiler for the fuzzer, and neither nightly Rust nor cargo-fuzz: the counters are a pass of the stable compiler.

mod planted;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use pg_test::arguments::number;
use pg_test::progress;

const TARGETS: [&str; 4] = ["jsonb", "jsonlogic", "token", "setting"];

/// What cargo-fuzz asks of the compiler, without a sanitizer: the modules have no `unsafe`.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// What the smallest target has some 80 of.
const LEAST_EDGES: u32 = 40;

struct Options {
    seconds: u32,
    keep: bool,
    targets: Vec<&'static str>,
}

fn main() -> ExitCode {
    progress::conclude(options().and_then(|options| fuzz(&options)))
}

fn options() -> Result<Options> {
    let mut options = Options { seconds: 30, keep: false, targets: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => options.seconds = number(&argument, &mut arguments)?,
            "--keep" => options.keep = true,
            name => match TARGETS.into_iter().find(|target| *target == name) {
                Some(target) => options.targets.push(target),
                None => bail!("usage: fuzz [--seconds N] [--keep] [{}]", TARGETS.join("|")),
            },
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

fn fuzz(options: &Options) -> Result<bool> {
    let home = pg_test::root().join("pg_test/fuzz");
    let made = pg_test::target().join("fuzz");
    let binaries = progress::stage("built the fuzz targets", || build(&home, &made))?;
    // Side by side: each is one thread.
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let running: Vec<_> = options
            .targets
            .iter()
            .map(|target| scope.spawn(|| run(target, &binaries, &home, &made, options)))
            .collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a thread panicked"))).collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(true)
}

fn build(home: &Path, made: &Path) -> Result<PathBuf> {
    let version = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not say its host")?;
    // With --target, build scripts and macros are compiled without the counters.
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--target", host, "--manifest-path"])
        .arg(home.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(made)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the fuzz targets cannot be built");
    Ok(made.join(host).join("release"))
}

/// One target. What is new goes under target/, and what failed is kept there.
fn run(target: &str, binaries: &Path, home: &Path, made: &Path, options: &Options) -> Result<()> {
    let kept_in = home.join("corpus").join(format!("{target}.txt"));
    let [kept, found, failed] = [made.join("kept").join(target), made.join("corpus").join(target), made.join("failed")];
    for directory in [&kept, &found, &failed] {
        std::fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    }
    unpack(&kept_in, &kept)?;
    let fuzzer = |directories: [&Path; 2]| {
        let mut command = Command::new(binaries.join(target));
        command.args(directories).args(["-timeout=20", "-rss_limit_mb=2048", "-max_len=1024"]);
        command.arg(format!("-artifact_prefix={}/{target}-", failed.display()));
        command
    };
    let output = fuzzer([&found, &kept])
        .arg(format!("-max_total_time={}", options.seconds))
        .output()
        .context(target.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{target} failed; the input is under {}\n{}", failed.display(), tail(&said));
    let last = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("done").to_lowercase();
    let coverage = said.lines().rev().find_map(|line| line.split_once("cov: ")).map_or("", |(_, rest)| rest);
    let edges: u32 = coverage.split_whitespace().next().and_then(|edges| edges.parse().ok()).unwrap_or(0);
    // Without the counters it would be a search in the dark, and say nothing of it.
    ensure!(
        edges >= LEAST_EDGES,
        "{target}: {edges} edges were counted: the fuzzer does not see the code\n{}",
        tail(&said)
    );
    progress::say(format!("fuzz {target}: {last}, {edges} edges, no failure"));
    if target == "jsonlogic" {
        planted::are_noticed(&binaries.join(target))?;
    }
    if options.keep {
        let least = made.join("least").join(target);
        let _ = std::fs::remove_dir_all(&least);
        std::fs::create_dir_all(&least)?;
        let merged =
            fuzzer([&least, &kept]).arg(&found).arg("-set_cover_merge=1").output().context(target.to_owned())?;
        ensure!(
            merged.status.success(),
            "merging the corpus of {target}: {}",
            tail(&String::from_utf8_lossy(&merged.stderr))
        );
        pack(&least, &kept_in)?;
    }
    Ok(())
}

/// The kept corpus is a text: an input a line, in hexadecimal digits.
fn unpack(kept: &Path, directory: &Path) -> Result<()> {
    let text = std::fs::read_to_string(kept).with_context(|| format!("reading {}", kept.display()))?;
    for (number, line) in text.lines().enumerate() {
        let byte = |at: usize| line.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let bytes: Option<Vec<u8>> = (0..line.len()).step_by(2).map(byte).collect();
        let bytes = bytes.with_context(|| format!("{}: line {}", kept.display(), number + 1))?;
        std::fs::write(directory.join(format!("{number:05}")), bytes)?;
    }
    Ok(())
}

fn pack(directory: &Path, kept: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let bytes = std::fs::read(entry?.path())?;
        lines.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    lines.sort_unstable_by(|one, other| one.len().cmp(&other.len()).then_with(|| one.cmp(other)));
    std::fs::create_dir_all(kept.parent().context("no directory")?)?;
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(kept, text).with_context(|| format!("writing {}", kept.display()))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
