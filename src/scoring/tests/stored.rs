//! The reader on what the writer makes, and on bytes that are no jsonb at all.

use bumpalo::Bump;

use super::numbers::Random;
use super::{compiled, json, limits};
use crate::scoring::jsonb::Container;
use crate::scoring::{build, score};

fn object(count: usize) -> String {
    let pairs: Vec<String> = (0..count).map(|n| format!("\"{}{n}\": [{n}, {n}.5]", "k".repeat(n % 5))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[test]
fn every_key_of_objects_of_every_size() {
    for count in [0, 1, 2, 31, 32, 33, 63, 64, 65, 200, 1_000] {
        let bytes = json::jsonb(&object(count));
        let container = Container::new(&bytes);
        assert_eq!(container.len(), count);
        for n in 0..count {
            let key = format!("{}{n}", "k".repeat(n % 5));
            let found = container.get(key.as_bytes()).expect("a key that is there");
            assert_eq!(json::text(&found), format!("[{n},{n}.5]"));
            assert!(container.get(format!("{key}x").as_bytes()).is_none());
        }
        // The same by looking up many at once, side by side and one by one.
        for step in [1, 7, 400] {
            let mut wanted: Vec<Vec<u8>> =
                (0..count + 5).step_by(step).map(|n| format!("{}{n}", "k".repeat(n % 5)).into_bytes()).collect();
            wanted.sort_by(|a, b| crate::scoring::jsonb::key_order(a, b));
            let mut found = Vec::new();
            container
                .find_all(wanted.iter().map(Vec::as_slice), |number, value| found.push((number, json::text(&value))));
            let expected: Vec<(usize, String)> = wanted
                .iter()
                .enumerate()
                .filter_map(|(number, key)| container.get(key).map(|value| (number, json::text(&value))))
                .collect();
            assert_eq!(found, expected, "{count} keys, every {step}");
        }
    }
}

#[test]
fn arrays_of_every_size() {
    for count in [0, 1, 31, 32, 33, 64, 65, 1_000] {
        let text =
            format!("[{}]", (0..count).map(|n| format!("\"{}\"", "x".repeat(n % 7))).collect::<Vec<_>>().join(","));
        let bytes = json::jsonb(&text);
        let container = Container::new(&bytes);
        assert_eq!(json::text(&container.root()), text);
        for n in 0..count {
            assert_eq!(json::text(&container.element(n).unwrap()), format!("\"{}\"", "x".repeat(n % 7)));
        }
        assert!(container.element(count).is_none());
    }
}

/// Whatever the bytes are: no panic, and no end that does not come.
#[test]
fn broken_bytes_do_no_harm() {
    let rule = r#"[{"var": "a"}, {"var": "kk2.1"}, {"map": [{"var": ""}, {"+": [{"var": ""}, 1]}]}, {"cat": [{"var": "k1"}]}, {"===": [{"var": ""}, {"var": "k1"}]}, {"in": [1, {"var": "k1"}]}]"#;
    let parts: Vec<_> = json_rules(rule);
    let good = json::jsonb(&object(40));
    let mut random = Random(21);
    for round in 0..20_000 {
        let mut bytes = good.clone();
        if round % 4 == 0 {
            bytes.truncate(random.next(bytes.len() as u64) as usize);
        }
        for _ in 0..1 + random.next(6) {
            if !bytes.is_empty() {
                let at = if random.next(2) == 0 {
                    random.next(bytes.len().min(400) as u64)
                } else {
                    random.next(bytes.len() as u64)
                };
                bytes[at as usize] = random.next(256) as u8;
            }
        }
        for program in &parts {
            let arena = Bump::new();
            if let Ok(value) = score::evaluate(program, build::read(&bytes), &arena, limits()) {
                let _ = build::document(&value);
            }
        }
    }
}

fn json_rules(list: &str) -> Vec<crate::scoring::program::Program> {
    let bytes = json::jsonb(list);
    let (rules, _) = build::read(&bytes).elements().expect("a list");
    rules.map(|rule| compiled(&json::text(&rule)).expect("a rule")).collect()
}
