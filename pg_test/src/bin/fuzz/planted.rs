//! What shows that the second engine of the jsonlogic target would notice a fault: the extension is given one operator for another, in a rule that tells the two
//! apart, and the comparison has to fail; with the right operator it has to hold.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pg_test::progress;

const DOCUMENT: &str = r#"{"a":5,"list":[1,0,2],"b":{"c":1}}"#;

/// An operator, what it is taken for, and a rule. `now` and `days_between` are left out, as by the second engine.
#[rustfmt::skip]
const FAULTS: [(&str, &str, &str); 47] = [
    ("var", "exists", r#"{"var":"a"}"#),
    ("val", "exists", r#"{"val":"a"}"#),
    ("exists", "val", r#"{"exists":"a"}"#),
    ("if", "and", r#"{"if":[false,1,2]}"#),
    ("?:", "and", r#"{"?:":[false,1,2]}"#),
    ("and", "or", r#"{"and":[0,1]}"#),
    ("or", "and", r#"{"or":[0,1]}"#),
    ("??", "or", r#"{"??":[0,1]}"#),
    ("!", "!!", r#"{"!":[true]}"#),
    ("!!", "!", r#"{"!!":[true]}"#),
    ("==", "===", r#"{"==":[1,"1"]}"#),
    ("!=", "!==", r#"{"!=":[1,"1"]}"#),
    ("===", "==", r#"{"===":[1,"1"]}"#),
    ("!==", "!=", r#"{"!==":[1,"1"]}"#),
    ("<", "<=", r#"{"<":[1,1]}"#),
    ("<=", "<", r#"{"<=":[1,1]}"#),
    (">", ">=", r#"{">":[1,1]}"#),
    (">=", ">", r#"{">=":[1,1]}"#),
    ("+", "-", r#"{"+":[1,2]}"#),
    ("-", "+", r#"{"-":[1,2]}"#),
    ("*", "+", r#"{"*":[2,3]}"#),
    ("/", "*", r#"{"/":[6,3]}"#),
    ("%", "/", r#"{"%":[7,2]}"#),
    ("max", "min", r#"{"max":[1,2]}"#),
    ("min", "max", r#"{"min":[1,2]}"#),
    ("map", "filter", r#"{"map":[{"var":"list"},{"+":[{"var":""},1]}]}"#),
    ("filter", "map", r#"{"filter":[{"var":"list"},{"var":""}]}"#),
    ("all", "some", r#"{"all":[{"var":"list"},{"var":""}]}"#),
    ("none", "some", r#"{"none":[[0],{"var":""}]}"#),
    ("some", "all", r#"{"some":[{"var":"list"},{"var":""}]}"#),
    ("reduce", "if", r#"{"reduce":[{"var":"list"},{"+":[{"var":"accumulator"},{"var":"current"}]},0]}"#),
    ("merge", "cat", r#"{"merge":[[1],2]}"#),
    ("in", "starts_with", r#"{"in":["b","abc"]}"#),
    ("cat", "merge", r#"{"cat":["a","b"]}"#),
    ("substr", "starts_with", r#"{"substr":["abc",1]}"#),
    ("log", "!!", r#"{"log":5}"#),
    ("length", "abs", r#"{"length":"abc"}"#),
    ("starts_with", "ends_with", r#"{"starts_with":["abc","a"]}"#),
    ("ends_with", "starts_with", r#"{"ends_with":["abc","c"]}"#),
    ("upper", "lower", r#"{"upper":"a"}"#),
    ("lower", "upper", r#"{"lower":"A"}"#),
    ("trim", "lower", r#"{"trim":" A "}"#),
    ("abs", "ceil", r#"{"abs":-1.5}"#),
    ("ceil", "floor", r#"{"ceil":1.5}"#),
    ("floor", "ceil", r#"{"floor":1.5}"#),
    ("missing", "merge", r#"{"missing":["a","z"]}"#),
    ("missing_some", "in", r#"{"missing_some":[1,["z"]]}"#),
];

pub fn are_noticed(binary: &Path) -> Result<()> {
    for (one, other, rule) in FAULTS {
        let differ = |planted: &str| -> Result<bool> {
            let mut command = Command::new(binary);
            command.env("PLANTED", planted).env("RULE", rule).env("DOCUMENT", DOCUMENT).arg("-runs=1");
            // What it writes of a failure is not looked at.
            command.arg("-exact_artifact_path=/dev/null");
            let output = command.output().with_context(|| format!("running {}", binary.display()))?;
            Ok(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("the engines differ"))
        };
        ensure!(!differ("")?, "{rule}: the engines differ");
        ensure!(
            differ(&format!("{one} {other}"))?,
            "\"{one}\" was taken for \"{other}\" in {rule}, and nobody noticed"
        );
    }
    progress::say(format!("fuzz jsonlogic: {} planted faults were noticed", FAULTS.len()));
    Ok(())
}
