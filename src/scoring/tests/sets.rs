//! Rule sets and models as a whole.

use bumpalo::Bump;

use super::{json, limits, rule_set};
use crate::scoring::build;
use crate::scoring::cache::Cache;
use crate::scoring::score;

fn explained(rules: &str, document: &str) -> String {
    let program = rule_set(rules).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let (document, arena) = (json::jsonb(document), Bump::new());
    let value = score::explain(&program, Some(3), build::read(&document), &arena, limits()).expect("it is explained");
    let scored = score::score(&program, build::read(&document), &arena, limits()).expect("it is scored");
    let bytes = build::document(&value).expect("it fits");
    let mut sum = Vec::new();
    scored.score.print_shortest(&mut sum);
    let text = json::text(&build::read(&bytes));
    assert!(text.contains(&format!("\"score\":{},", String::from_utf8_lossy(&sum))), "{text}");
    text
}

#[test]
fn a_failing_rule_counts_nothing_and_the_others_do() {
    let rules = r#"[{"id": "a", "when": true, "score": 1.5}, {"id": "b", "when": {"+": ["x"]}, "score": 10},
                    {"id": "c", "when": {">": [{"var": "n"}, 1]}, "score": {"*": [{"var": "n"}, 2]}}, {"id": "d", "when": true, "score": {"var": "t"}}]"#;
    assert_eq!(
        explained(rules, r#"{"n": 4, "t": "text"}"#),
        r#"{"fired":[{"id":"a","score":1.5,"values":{}},{"id":"c","score":8,"values":{"n":4}}],"score":9.5,"errors":[{"id":"b","error":"a number is needed, and this text is none"},{"id":"d","error":"a score, which is a number, is needed, and this is a text"}],"version":3}"#
    );
}

#[test]
fn values_are_what_the_rule_read() {
    let rules = r#"[{"id": "a", "when": {"and": [{"==": [{"var": "a.b"}, "x"]}, {"in": [{"var": "c"}, ["p", "q", "r", "s"]]}, {"exists": "d"}]}, "score": {"var": "e.0"}}]"#;
    let document = r#"{"a": {"b": "x"}, "c": "q", "d": null, "e": [7], "f": 1}"#;
    assert_eq!(
        explained(rules, document),
        r#"{"fired":[{"id":"a","score":7,"values":{"c":"q","d":null,"a.b":"x","e.0":7}}],"score":7,"errors":[],"version":3}"#
    );
}

#[test]
fn equal_expressions_are_one_node() {
    let one =
        rule_set(r#"[{"id": "a", "when": {"and": [{"<": [{"var": "x"}, 1.5]}, {"!": [{"var": "y"}]}]}, "score": 1}]"#)
            .unwrap();
    let many: Vec<String> = (0..100)
        .map(|n| format!(r#"{{"id": "r{n}", "when": {{"and": [{{"<": [{{"var": "x"}}, 1.5]}}, {{"!": [{{"var": "y"}}]}}]}}, "score": 1}}"#))
        .collect();
    let many = rule_set(&format!("[{}]", many.join(","))).unwrap();
    // One more, which keeps what the first gave.
    assert_eq!(many.nodes.len(), one.nodes.len() + 1);
    assert_eq!((many.slots.len(), many.memos), (2, 1));
}

#[test]
fn the_cache_forgets_what_was_not_asked_for_longest() {
    let program =
        |n: usize| std::rc::Rc::new(rule_set(&format!(r#"[{{"id": "r{n:09}", "when": true, "score": 1}}]"#)).unwrap());
    let size = program(0).size();
    let mut cache = Cache::new(size * 3);
    for n in 0..3u8 {
        cache.put([n; 32], program(n.into()));
    }
    assert!(cache.get(&[0; 32]).is_some());
    cache.put([3; 32], program(3));
    assert!(cache.get(&[1; 32]).is_none() && cache.get(&[0; 32]).is_some() && cache.get(&[3; 32]).is_some());
    cache.put([3; 32], program(3));
    assert_eq!(cache.len(), 3);
    let mut tiny = Cache::new(10);
    tiny.put([0; 32], program(0));
    assert_eq!(tiny.len(), 0);
}
