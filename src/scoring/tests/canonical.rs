//! The canonical suite of jsonlogic.com, where it is there: it is not part of this repository.

use super::{gives, json};
use crate::scoring::build;

/// `BULKHEAD_JSONLOGIC_TESTS`, or the shared folder beside the repository.
fn suite() -> Option<String> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/jsonlogic/tests.json");
    let path = std::env::var("BULKHEAD_JSONLOGIC_TESTS").unwrap_or_else(|_| beside.to_owned());
    std::fs::read_to_string(path).ok()
}

#[test]
fn the_canonical_suite() {
    let Some(suite) = suite() else {
        println!("skipped: there is no ../shared/jsonlogic/tests.json, and BULKHEAD_JSONLOGIC_TESTS is not set");
        return;
    };
    let suite = json::jsonb(&suite);
    let (cases, _) = build::read(&suite).elements().expect("an array of cases");
    let mut count = 0;
    for case in cases {
        let Some((parts, 3)) = case.elements() else { continue };
        let parts: Vec<String> = parts.map(|part| json::text(&part)).collect();
        gives(&parts[0], &parts[1], &parts[2]);
        count += 1;
    }
    assert_eq!(count, 277);
}
