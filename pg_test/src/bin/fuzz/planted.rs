//! What shows that the second engine of the jsonlogic target would notice a fault: the extension is given one operator for another, and the run has to fail.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pg_test::progress;

/// An operator, and what it is taken for. `now` and `days_between` are left out, as by the second engine.
const FAULTS: [(&str, &str); 47] = [
    ("var", "exists"),
    ("val", "exists"),
    ("exists", "val"),
    ("if", "and"),
    ("?:", "and"),
    ("and", "or"),
    ("or", "and"),
    ("??", "or"),
    ("!", "!!"),
    ("!!", "!"),
    ("==", "==="),
    ("!=", "!=="),
    ("===", "=="),
    ("!==", "!="),
    ("<", "<="),
    ("<=", "<"),
    (">", ">="),
    (">=", ">"),
    ("+", "-"),
    ("-", "+"),
    ("*", "+"),
    ("/", "*"),
    ("%", "/"),
    ("max", "min"),
    ("min", "max"),
    ("map", "filter"),
    ("filter", "map"),
    ("all", "some"),
    ("none", "some"),
    ("some", "all"),
    ("reduce", "map"),
    ("merge", "cat"),
    ("in", "starts_with"),
    ("cat", "merge"),
    ("substr", "starts_with"),
    ("log", "!!"),
    ("length", "abs"),
    ("starts_with", "ends_with"),
    ("ends_with", "starts_with"),
    ("upper", "lower"),
    ("lower", "upper"),
    ("trim", "lower"),
    ("abs", "ceil"),
    ("ceil", "floor"),
    ("floor", "ceil"),
    ("missing", "merge"),
    ("missing_some", "in"),
];

/// How long the fuzzer may look for what the corpus does not show.
const SECONDS: u32 = 20;

/// Each of them, from the kept corpus on. `made`: for what the fuzzer writes.
pub fn are_noticed(binary: &Path, kept: &Path, made: &Path) -> Result<()> {
    let directory = made.join("planted");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)?;
    let mut at_once = 0;
    for (one, other) in FAULTS {
        let told = |limit: String, first: &Path| -> Result<bool> {
            let mut command = Command::new(binary);
            command.env("PLANTED", format!("{one} {other}")).args([first, kept]).args(["-max_len=1024", &limit]);
            command.arg(format!("-artifact_prefix={}/", directory.display()));
            let output = command.output().with_context(|| format!("running {}", binary.display()))?;
            Ok(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("the engines differ"))
        };
        if told("-runs=0".into(), kept)? {
            at_once += 1;
        } else {
            let found = directory.join("found");
            std::fs::create_dir_all(&found)?;
            ensure!(
                told(format!("-max_total_time={SECONDS}"), &found)?,
                "\"{one}\" was taken for \"{other}\", and nobody noticed"
            );
        }
    }
    progress::say(format!(
        "fuzz jsonlogic: {} planted faults were noticed, {at_once} of them by the kept corpus alone",
        FAULTS.len()
    ));
    Ok(())
}
