//! The project's own cases: each operator, its edges, and what fails.

use super::{compiled, fails, gives};
use crate::scoring::fault::Fault;

#[test]
fn equality_is_javascripts() {
    for (a, b, loose, strict) in [
        ("1", "1.0", true, true),
        ("1", "\"1\"", true, false),
        ("1", "\" 1.0 \"", true, false),
        ("0", "\"\"", true, false),
        ("1", "true", true, false),
        ("0", "false", true, false),
        ("2", "true", false, false),
        ("\"1\"", "true", true, false),
        ("\"true\"", "true", false, false),
        ("\"\"", "false", true, false),
        ("null", "null", true, true),
        ("null", "0", false, false),
        ("null", "false", false, false),
        ("null", "\"\"", false, false),
        ("1", "\"A\"", false, false),
        ("[1, 2]", "[1, 2.0]", true, true),
        ("[1, 2]", "[2, 1]", false, false),
        ("[1]", "1", false, false),
        ("{\"a\": 1, \"b\": [2]}", "{\"b\": [2], \"a\": 1}", true, true),
        ("{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"c\": 2}", false, false),
        ("\"a\"", "\"a\"", true, true),
        ("\"a\"", "\"A\"", false, false),
    ] {
        let data = format!(r#"{{"a": {a}, "b": {b}}}"#);
        for (operator, wanted) in [("==", loose), ("!=", !loose), ("===", strict), ("!==", !strict)] {
            for (left, right) in [("a", "b"), ("b", "a")] {
                let rule = format!(r#"{{"{operator}": [{{"var": "{left}"}}, {{"var": "{right}"}}]}}"#);
                gives(&rule, &data, &wanted.to_string());
            }
            // The same with a constant, which takes another way for texts.
            if !b.starts_with(['[', '{']) {
                gives(&format!(r#"{{"{operator}": [{{"var": "a"}}, {b}]}}"#), &data, &wanted.to_string());
            }
        }
    }
}

#[test]
fn order_is_of_numbers_or_of_texts() {
    gives(r#"{"<": [{"var": "x"}, 5]}"#, r#"{"x": "4"}"#, "true");
    gives(r#"{"<": [null, 1]}"#, "{}", "true");
    gives(r#"{"<": ["10", "9"]}"#, "{}", "true");
    gives(r#"{"<": ["10", 9]}"#, "{}", "false");
    gives(r#"{"<=": [1, {"var": "x"}, 3]}"#, r#"{"x": 3}"#, "true");
    gives(r#"{"<": [1, {"var": "x"}, 3]}"#, r#"{"x": 3}"#, "false");
    gives(r#"{">": [3, 2, 1]}"#, "{}", "true");
    gives(r#"{">": [5, {"var": "x"}]}"#, r#"{"x": 4.5}"#, "true");
    assert_eq!(fails(r#"{"<": [{"var": "x"}, 5]}"#, r#"{"x": "many"}"#), Fault::NotANumber);
    assert!(matches!(fails(r#"{">": [{"var": "x"}, 5]}"#, r#"{"x": [1]}"#), Fault::Needs { .. }));
}

#[test]
fn arithmetic_on_what_is_no_number_fails() {
    for operator in ["+", "-", "*", "/", "%"] {
        for value in ["\"x\"", "[]", "[1]", "{}", "{\"a\": 1}"] {
            fails(&format!(r#"{{"{operator}": [{{"var": "v"}}, 1]}}"#), &format!(r#"{{"v": {value}}}"#));
        }
    }
    for operator in ["/", "%"] {
        for zero in ["0", "0.00", "\"0\"", "false", "null", "\"\""] {
            let rule = format!(r#"{{"{operator}": [1, {{"var": "v"}}]}}"#);
            assert_eq!(fails(&rule, &format!(r#"{{"v": {zero}}}"#)), Fault::DivisionByZero);
        }
    }
    gives(r#"{"+": [1, "2", 3, "4", "", true, false, null]}"#, "null", "11");
    gives(r#"{"-": [1, 2, 3, 4]}"#, "null", "-8");
    gives(r#"{"/": [8, 2, 2]}"#, "null", "2");
    gives(r#"{"/": 2}"#, "null", "0.5");
    gives(r#"{"%": [-8, 3]}"#, "null", "-2");
    gives(r#"{"+": []}"#, "null", "0");
    gives(r#"{"*": []}"#, "null", "1");
    gives(r#"{"+": {"var": "l"}}"#, r#"{"l": [1, 2, "3"]}"#, "6");
    gives(r#"{"max": {"var": "l"}}"#, r#"{"l": [1, 20, "3"]}"#, "20");
    fails(r#"{"max": [1, null]}"#, "null");
    fails(r#"{"min": {"var": "l"}}"#, r#"{"l": []}"#);
}

#[test]
fn logic_is_lazy_and_gives_values() {
    gives(r#"{"and": [false, {"/": [1, 0]}]}"#, "{}", "false");
    gives(r#"{"or": [3, {"/": [1, 0]}]}"#, "{}", "3");
    gives(r#"{"if": [true, 1, {"/": [1, 0]}]}"#, "{}", "1");
    gives(r#"{"??": [null, {"var": "no"}, 0, 5]}"#, "{}", "0");
    gives(r#"{"==": [3, 2, {"/": [1, 0]}]}"#, "{}", "false");
    gives(r#"{"!!": [{"var": "o"}]}"#, r#"{"o": {}}"#, "false");
    gives(r#"{"!": [[0]]}"#, "{}", "false");
}

#[test]
fn array_operators_nest() {
    gives(r#"{"map": [[1, 2, 3], {"+": [{"val": [[1], "index"]}, {"val": []}]}]}"#, "{}", "[1, 3, 5]");
    gives(
        r#"{"map": [{"val": "n"}, {"+": [{"val": [[2], "add"]}, {"var": ""}]}]}"#,
        r#"{"n": [1, 2], "add": 10}"#,
        "[11, 12]",
    );
    let nested = r#"{"map": [{"var": "rows"}, {"reduce": [{"var": "cells"}, {"+": [{"var": "accumulator"}, {"*": [{"var": "current"}, {"val": [[2], "factor"]}, {"val": [[4], "all"]}]}]}, 0]}]}"#;
    gives(
        nested,
        r#"{"all": 10, "rows": [{"cells": [1, 2], "factor": 3}, {"cells": [], "factor": 1}, {"cells": [5], "factor": 2}]}"#,
        "[90, 0, 100]",
    );
    gives(
        r#"{"reduce": [[1, 2], {"var": ""}, null]}"#,
        "{}",
        r#"{"current": 2, "accumulator": {"current": 1, "accumulator": null}}"#,
    );
    gives(
        r#"{"filter": [{"var": "l"}, {"var": "keep"}]}"#,
        r#"{"l": [{"keep": 1}, {"keep": 0}, 5]}"#,
        r#"[{"keep": 1}]"#,
    );
    gives(r#"{"some": [{"var": "no"}, true]}"#, "{}", "false");
    gives(r#"{"none": [{"var": "no"}, true]}"#, "{}", "true");
    gives(r#"{"all": [{"var": "no"}, true]}"#, "{}", "false");
    // The same expression, at the root and inside, is not the same value.
    gives(
        r#"{"map": [{"var": "l"}, {"cat": [{"var": "x"}, "-"]}]}"#,
        r#"{"x": 0, "l": [{"x": 1}, {"x": 2}]}"#,
        r#"["1-", "2-"]"#,
    );
    let shared =
        r#"[{"+": [{"var": "x"}, 1]}, {"+": [{"var": "x"}, 1]}, {"map": [{"var": "l"}, {"+": [{"var": "x"}, 1]}]}]"#;
    gives(shared, r#"{"x": 1, "l": [{"x": 5}]}"#, "[2, 2, [6]]");
    let twice = r#"{"and": [{"some": [{"var": "l"}, {">": [{"var": ""}, 1]}]}, {"some": [{"var": "l"}, {">": [{"var": ""}, 1]}]}]}"#;
    gives(twice, r#"{"l": [1, 2]}"#, "true");
}

#[test]
fn texts() {
    gives(r#"{"cat": [1.50, null, true, [1, [2, "x"]], "a"]}"#, "{}", r#""1.5true1,2,xa""#);
    fails(r#"{"cat": [{"var": "o"}]}"#, r#"{"o": {"a": 1}}"#);
    gives(r#"{"in": ["ell", "hello"]}"#, "{}", "true");
    gives(r#"{"in": [5, "12345"]}"#, "{}", "true");
    gives(r#"{"in": ["5", [5]]}"#, "{}", "false");
    gives(r#"{"in": ["x", null]}"#, "{}", "false");
    gives(r#"{"in": [{"var": "no"}, "AT, CH"]}"#, "{}", "false");
    gives(r#"{"in": [null, "null"]}"#, "{}", "false");
    gives(r#"{"in": ["", "AT"]}"#, "{}", "true");
    for needle in ["a", "b", "e", "z", ""] {
        let wanted = ["a", "b", "c", "d", "e"].contains(&needle).to_string();
        gives(r#"{"in": [{"var": "n"}, ["a", "b", "c", "d", "e"]]}"#, &format!(r#"{{"n": "{needle}"}}"#), &wanted);
    }
    gives(r#"{"in": [{"var": "n"}, ["1", "2", "3", "4"]]}"#, r#"{"n": 1}"#, "false");
    gives(r#"{"starts_with": ["hello", "he"]}"#, "{}", "true");
    gives(r#"{"ends_with": ["hello", "lo"]}"#, "{}", "true");
    gives(r#"{"trim": "  x\t\n"}"#, "{}", r#""x""#);
    gives(r#"{"lower": "ÄBC"}"#, "{}", r#""äbc""#);
    gives(r#"{"substr": ["hello", 1.9, 2]}"#, "{}", r#""el""#);
    gives(r#"{"substr": ["hello", -99]}"#, "{}", r#""hello""#);
    gives(r#"{"substr": ["hello", 99]}"#, "{}", r#""""#);
    gives(r#"{"substr": ["hello", 3, -9]}"#, "{}", r#""""#);
    fails(r#"{"length": {"var": "no"}}"#, "{}");
    fails(r#"{"days_between": ["soon", "2026-01-01"]}"#, "{}");
    gives(r#"{"days_between": ["2026-03-01", "2026-02-27"]}"#, "{}", "-2");
    gives(r#"{"now": []}"#, "{}", r#""2026-11-21T12:00:00.000000Z""#);
}

#[test]
fn a_path_is_the_same_written_and_computed() {
    for path in ["1.2", "1.20", "\"1.2\""] {
        let document = format!(r#"{{"path": {path}, "1": [0, 0, 6]}}"#);
        gives(&format!(r#"{{"var": {path}}}"#), &document, "6");
        gives(r#"{"var": {"var": "path"}}"#, &document, "6");
        gives(&format!(r#"{{"map": [[{{"val": []}}], {{"var": {path}}}]}}"#), &document, "[6]");
    }
}

#[test]
fn many_texts_of_one_path() {
    let rules: Vec<String> = (0..20).map(|n| format!(r#"{{"==": [{{"var": "x"}}, "t{n}"]}}"#)).collect();
    let all = format!(
        "[{}, {{\"!=\": [{{\"var\": \"x\"}}, \"t3\"]}}, {{\"==\": [{{\"var\": \"x\"}}, \"5\"]}}]",
        rules.join(",")
    );
    for (x, hits, not_three, five) in [
        ("\"t7\"", vec![7], true, false),
        ("\"t3\"", vec![3], false, false),
        ("\"t\"", vec![], true, false),
        ("5", vec![], true, true),
        ("null", vec![], true, false),
    ] {
        let wanted: Vec<String> = (0..20).map(|n| hits.contains(&n).to_string()).collect();
        gives(&all, &format!(r#"{{"x": {x}}}"#), &format!("[{}, {not_three}, {five}]", wanted.join(",")));
    }
}

#[test]
fn what_is_refused_says_where() {
    for (rule, path, fault) in [
        (r#"{"frob": 1}"#, "", "there is no operator \"frob\""),
        (r#"{"and": [true, {"<": [1]}]}"#, "and[1].<", "it takes 2 or more arguments, and has 1"),
        (r#"{"!": {"substr": "x"}}"#, "!.substr", "it takes 2 to 3 arguments, and has 1"),
        (r#"[1, {"if": [1, {"val": [[3], "x"]}]}]"#, "[1].if[1].val", "an odd number"),
        (r#"{"val": [[2], "x"]}"#, "val", "inside of 0 array operators"),
        (r#"{"+": 1, "-": 2}"#, "", "an operation is an object with one key"),
        (r#"{"var": true}"#, "var", "a path is a text or a number"),
        (r#"{"%": [5]}"#, "%", "2 or more"),
    ] {
        let refusal = compiled(rule).err().unwrap_or_else(|| panic!("{rule} is taken"));
        assert_eq!(refusal.path, path, "{rule}: {refusal:?}");
        assert!(refusal.fault.contains(fault), "{rule}: {refusal:?}");
    }
    // What is no rule is a value.
    gives(r#"{"a": 1, "b": {"c": 2}}"#, "{}", r#"{"a": 1, "b": {"c": 2}}"#);
    gives("{}", "{}", "{}");
}

#[test]
fn budgets_hold() {
    let long = format!("[{}]", vec!["1"; 2_000].join(","));
    let rule = r#"{"map": [{"var": "l"}, {"map": [{"val": [[2], "l"]}, {"+": [1, {"var": ""}]}]}]}"#;
    assert_eq!(fails(rule, &format!(r#"{{"l": {long}}}"#)), Fault::Operations);
    let doubling = r#"{"reduce": [{"var": "l"}, {"cat": [{"var": "accumulator"}, {"var": "accumulator"}]}, "ab"]}"#;
    assert_eq!(fails(doubling, &format!(r#"{{"l": {long}}}"#)), Fault::Bytes);
    let merging = r#"{"reduce": [{"var": "l"}, {"merge": [{"var": "accumulator"}, {"var": "accumulator"}]}, [1, 2]]}"#;
    assert_eq!(fails(merging, &format!(r#"{{"l": {long}}}"#)), Fault::Bytes);
    let objects = r#"{"reduce": [{"var": "l"}, {"var": ""}, 0]}"#;
    gives(&format!(r#"{{"length": {{"map": [{objects}, 1]}}}}"#), &format!(r#"{{"l": {long}}}"#), "0");
}
