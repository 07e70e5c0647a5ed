//! The compiler and the evaluator: any rule is refused, or runs on any document within its budget, and always to the same end.

#![no_main]

use bumpalo::Bump;
use fuzz::scoring::program::Program;
use fuzz::scoring::run::Limits;
use fuzz::scoring::value::Value;
use fuzz::scoring::{build, compile, json, rules, score};
use fuzz::{LIMITS, Made};
use libfuzzer_sys::fuzz_target;

fn run(program: &Program, document: &[u8], limits: Limits) -> Result<String, String> {
    let arena = Bump::new();
    let value =
        score::evaluate(program, build::read(document), &arena, limits).map_err(|fault| format!("{fault:?}"))?;
    let bytes = build::document(&value).map_err(|_| "too large".to_owned())?;
    Ok(json::text(&build::read(&bytes)))
}

fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let document = json::jsonb(&Made::of(rest).document(4));
    if let Ok(program) = compile::rule(&json::jsonb(&Made::of(first).rule(6)), 100_000) {
        let whole = run(&program, &document, LIMITS);
        assert_eq!(run(&program, &document, LIMITS), whole, "twice the same");
        // With less it is the same, or an end.
        if let Ok(less) = run(&program, &document, Limits { operations: 50, ..LIMITS }) {
            assert_eq!(Ok(less), whole, "a budget that is kept changes nothing");
        }
    }
    if let Ok(program) = rules::rule_set(&json::jsonb(&Made::of(first).rule_set()), 100_000) {
        let arena = Bump::new();
        let read = build::read(&document);
        let (scored, explained) =
            (score::score(&program, read, &arena, LIMITS), score::explain(&program, Some(1), read, &arena, LIMITS));
        if let (Ok(scored), Ok(explained)) = (scored, explained) {
            assert_eq!(
                json::text(&explained.get(b"score")),
                json::text(&Value::Number(scored.score)),
                "explained as scored"
            );
        }
    }
});
