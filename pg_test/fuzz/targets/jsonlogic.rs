//! The compiler and the evaluator: any rule is refused, or runs on any document within its budget, always to the same end, and to the end that a second engine comes to.

#![no_main]

use std::sync::LazyLock;

use bumpalo::Bump;
use fuzz::plain::{self, End, Gives};
use fuzz::scoring::fault::Fault;
use fuzz::scoring::program::Program;
use fuzz::scoring::run::Limits;
use fuzz::scoring::value::Value;
use fuzz::scoring::{build, compile, json, rules, score};
use fuzz::{LIMITS, Made};
use libfuzzer_sys::fuzz_target;

/// A planted fault: PLANTED as `all some`, where the extension takes one operator for another, a RULE and a DOCUMENT. Only these are compared then.
static PLANTED: LazyLock<Option<[String; 3]>> = LazyLock::new(|| {
    let planted = std::env::var("PLANTED").ok()?;
    let (rule, document) = (std::env::var("RULE").ok()?, std::env::var("DOCUMENT").ok()?);
    let wrong = match planted.split_once(' ') {
        Some((one, other)) => rule.replace(&format!("{{\"{one}\":"), &format!("{{\"{other}\":")),
        None => rule.clone(),
    };
    Some([rule, wrong, document])
});

fn run(program: &Program, document: &[u8], limits: Limits) -> Result<String, Fault> {
    let arena = Bump::new();
    let value = score::evaluate(program, build::read(document), &arena, limits)?;
    let bytes = build::document(&value).map_err(|_| Fault::TooLarge)?;
    Ok(json::text(&build::read(&bytes)))
}

/// The second engine says the same, or nothing; where there was too much of something it is not asked.
fn agree(ours: &Result<String, Fault>, plain: impl FnOnce() -> Gives, what: &str) {
    if matches!(ours, Err(fault) if fault.is_final() || matches!(fault, Fault::TooLong | Fault::TooDeep | Fault::TooLarge))
    {
        return;
    }
    let same = match (ours, &plain()) {
        (_, Err(End::Silent)) => return,
        (Ok(ours), Ok(plain)) => plain::parse(ours) == *plain,
        (Err(_), Err(End::Fails)) => true,
        _ => false,
    };
    assert!(same, "the engines differ: {what}: ours {ours:?}");
}

fuzz_target!(|bytes: &[u8]| {
    if let Some([rule, wrong, document]) = &*PLANTED {
        let program = compile::rule(&json::jsonb(wrong), 100_000).expect("the planted rule is compiled");
        let ours = run(&program, &json::jsonb(document), LIMITS);
        return agree(&ours, || plain::evaluate(rule, document), rule);
    }
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let shown = Made::of(rest).document(4);
    let document = json::jsonb(&shown);
    let rule = Made::of(first).rule(6);
    if let Ok(program) = compile::rule(&json::jsonb(&rule), 100_000) {
        let whole = run(&program, &document, LIMITS);
        assert_eq!(run(&program, &document, LIMITS), whole, "twice the same");
        // With less it is the same, or an end.
        if let Ok(less) = run(&program, &document, Limits { operations: 50, ..LIMITS }) {
            assert_eq!(Ok(less), whole, "a budget that is kept changes nothing");
        }
        agree(&whole, || plain::evaluate(&rule, &shown), &format!("{rule} of {shown}"));
    }
    let set = Made::of(first).rule_set();
    if let Ok(program) = rules::rule_set(&json::jsonb(&set), 100_000) {
        let arena = Bump::new();
        let read = build::read(&document);
        let (scored, explained) =
            (score::score(&program, read, &arena, LIMITS), score::explain(&program, Some(1), read, &arena, LIMITS));
        if let (Ok(scored), Ok(explained)) = (&scored, explained) {
            assert_eq!(
                json::text(&explained.get(b"score")),
                json::text(&Value::Number(scored.score)),
                "explained as scored"
            );
        }
        let sum = scored.map(|scored| json::text(&Value::Number(scored.score)));
        agree(&sum, || plain::score(&set, &shown), &format!("{set} of {shown}"));
    }
});
