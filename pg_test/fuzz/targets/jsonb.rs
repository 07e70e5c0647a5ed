//! The reader of binary jsonb: on any bytes it ends, and stays inside; a document that is written is read as what it was.

#![no_main]

use fuzz::Made;
use fuzz::scoring::jsonb::Container;
use fuzz::scoring::value::Value;
use fuzz::scoring::{build, json};
use libfuzzer_sys::fuzz_target;

/// Looks at everything, by every way that there is.
fn walk(value: &Value, left: &mut u32) {
    *left = left.saturating_sub(1);
    if *left == 0 {
        return;
    }
    let (_, _) = (value.truth(), value.size());
    if let Some((elements, _)) = value.elements() {
        for element in elements {
            walk(&element, left);
            if *left == 0 {
                return;
            }
        }
    }
    for key in [&b"a"[..], b"", b"key", b"0"] {
        if let found @ (Value::Text(_) | Value::Number(_)) = value.get(key) {
            walk(&found, left);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let container = Container::new(bytes);
    container.pairs().take(1_000).for_each(|(key, _)| {
        let _ = container.get(key);
    });
    let mut found = 0;
    container.find_all([&b"a"[..], b"b", b"aa"].into_iter(), |_, _| found += 1);
    assert!(found <= 3, "a key is found once");
    let mut left = 10_000;
    walk(&build::read(bytes), &mut left);

    // What the bytes stand for as a document, written and read again.
    let text = Made::of(bytes).document(5);
    let written = json::jsonb(&text);
    let value = build::read(&written);
    assert_eq!(build::document(&value).as_deref().ok(), Some(&*written), "the same bytes: {text}");
    let container = Container::new(&written);
    for (key, value) in container.pairs() {
        assert_eq!(
            container.get(key).map(|found| json::text(&found)),
            Some(json::text(&value)),
            "a key that is there: {text}"
        );
    }
});
