//! Documents of every shape are read as the server reads them, and numbers are its own numbers.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        documents_come_back_as_they_went_in => 240,
        however_they_are_stored,
        every_key_is_found => 240,
        numbers_are_exact,
        arithmetic_is_numerics => 240,
        comparisons_are_numerics,
        scalars_and_odd_keys,
        a_rule_is_the_same_however_it_is_asked,
        in_another_encoding,
    ]
}

/// Makes table `documents (id, d)` of random documents; the seed is in the test's name.
async fn documents(db: &Database, count: u32) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            r#"SELECT setseed(0.42);
            CREATE FUNCTION number() RETURNS text VOLATILE LANGUAGE sql AS $$
              SELECT CASE floor(random() * 10)::int
                WHEN 0 THEN (random() * 10)::int::text WHEN 1 THEN (-random() * 1e9)::bigint::text
                WHEN 2 THEN (random() * 100)::numeric(10, 2)::text WHEN 3 THEN '-0.000' || (1 + random() * 1000)::int
                WHEN 4 THEN '9007199254740993' WHEN 5 THEN repeat('1234567890', 1 + (random() * 6)::int) || '.' || repeat('07', (random() * 20)::int) || '1'
                WHEN 6 THEN '1e' || (random() * 400)::int WHEN 7 THEN '1.5e-' || (random() * 300)::int
                WHEN 8 THEN (random() * 9e18)::bigint::text || '.' || repeat('0', (random() * 8)::int) || '0' ELSE '-' || (random() * 1e4)::int || '0000' END $$;
            CREATE FUNCTION made(depth integer) RETURNS jsonb VOLATILE LANGUAGE plpgsql AS $$
            DECLARE kind integer := floor(random() * CASE WHEN depth = 0 THEN 12 WHEN depth > 2 THEN 5 ELSE 8 END); many integer := CASE WHEN depth = 0 AND random() < 0.5 THEN 20 + (random() * 60)::int ELSE (random() * 4)::int END;
            BEGIN RETURN CASE
              WHEN kind = 0 THEN 'null' WHEN kind = 1 THEN to_jsonb(random() < 0.5)
              WHEN kind = 2 THEN to_jsonb(repeat(chr(97 + (random() * 25)::int) || U&'\00e9\+01F600', (random() * 5)::int)) WHEN kind <= 4 THEN number()::jsonb
              WHEN kind <= 6 THEN (SELECT coalesce(jsonb_agg(made(depth + 1)), '[]') FROM generate_series(1, many))
              ELSE (SELECT coalesce(jsonb_object_agg(CASE WHEN random() < 0.3 THEN 'k' || i ELSE repeat(chr(97 + i % 26), 1 + i % 7) END, made(depth + 1)), '{{}}') FROM generate_series(1, many) i) END; END $$;
            CREATE TABLE documents AS SELECT i AS id, made(0) AS d FROM generate_series(1, {count}) i"#
        ))
        .await;
    owner
}

async fn documents_come_back_as_they_went_in(db: Database) {
    let owner = documents(&db, 2_000).await;
    let whole =
        r#"SELECT count(*) FROM documents WHERE bulkhead.jsonlogic('{"var": ""}', d)::text IS DISTINCT FROM d::text"#;
    assert_eq!(owner.one(whole).await, "0");
    // Elements are taken apart and put together again.
    let rebuilt = r#"SELECT count(*) FROM documents WHERE jsonb_typeof(d) = 'array' AND bulkhead.jsonlogic('{"map": [{"var": ""}, {"var": ""}]}', d)::text IS DISTINCT FROM d::text"#;
    assert_eq!(owner.one(rebuilt).await, "0");
    // Our own bytes are as good as the server's: it looks keys up in them, and compares them.
    let merged = r#"SELECT count(*) FROM documents WHERE jsonb_typeof(d) = 'array' AND (
          bulkhead.jsonlogic('{"merge": [{"var": ""}, [[1, 2.50]]]}', d) IS DISTINCT FROM d || '[[1, 2.50]]'
          OR hashtext(bulkhead.jsonlogic('{"merge": [{"var": ""}, [1]]}', d)::text) <> hashtext((d || '[1]')::text))"#;
    assert_eq!(owner.one(merged).await, "0");
    assert_ne!(owner.one("SELECT count(*) FROM documents WHERE jsonb_typeof(d) = 'array'").await, "0");
}

async fn however_they_are_stored(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE stored (kind text, pad \"char\", d jsonb);
             ALTER TABLE stored ALTER d SET STORAGE EXTERNAL;
             INSERT INTO stored SELECT 'external', 'x', jsonb_build_object('n', 1.5, 'pad', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i));
             ALTER TABLE stored ALTER d SET STORAGE EXTENDED;
             INSERT INTO stored SELECT 'compressed aside', 'x', jsonb_build_object('n', 1.5, 'pad', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i));
             ALTER TABLE stored ALTER d SET STORAGE MAIN;
             INSERT INTO stored SELECT 'compressed', 'x', jsonb_build_object('n', 1.5, 'pad', repeat('abc', 2000));
             INSERT INTO stored VALUES ('short', 'x', '{\"n\": 1.5}'), ('plain', 'x', jsonb_build_object('n', 1.5, 'pad', repeat('x', 200)))",
        )
        .await;
    let sizes =
        "SELECT count(*) FROM stored WHERE pg_column_size(d) < octet_length(d::text) / 3 OR pg_column_size(d) < 127";
    assert_ne!(owner.one(sizes).await, "0");
    let sql = r#"SELECT kind, bulkhead.jsonlogic('{"+": [{"var": "n"}, 1]}', d), bulkhead.jsonlogic('{"var": "pad"}', d) IS NOT DISTINCT FROM coalesce(d -> 'pad', 'null') FROM stored"#;
    for row in owner.rows(sql).await {
        assert_eq!(row[1..], ["2.5", "t"], "{row:?}");
    }
}

async fn every_key_is_found(db: Database) {
    let owner = documents(&db, 600).await;
    let keys = r#"SELECT count(*) FILTER (WHERE bulkhead.jsonlogic(jsonb_build_object('val', jsonb_build_array(k)), d) IS DISTINCT FROM v
                                             OR bulkhead.jsonlogic(jsonb_build_object('exists', jsonb_build_array(k || 'x')), d) <> to_jsonb(d ? (k || 'x'))), count(*) > 1000
                    FROM documents, LATERAL jsonb_each(d) AS e (k, v) WHERE jsonb_typeof(d) = 'object'"#;
    assert_eq!(owner.rows(keys).await, [["0", "t"]]);
    // Many paths at once, of which some are there, by one program.
    let many = r#"SELECT count(*) FILTER (WHERE (SELECT jsonb_object_agg(f ->> 'id', f -> 'values') FROM jsonb_array_elements(x -> 'fired') f) IS DISTINCT FROM
                        (SELECT jsonb_object_agg(k, CASE WHEN d ? k THEN jsonb_build_object(k, d -> k) ELSE '{}' END) FROM unnest(keys) k)), count(*) > 100
                    FROM documents,
                         LATERAL (SELECT array_agg(DISTINCT k) AS keys FROM (SELECT jsonb_object_keys(d) AS k UNION SELECT 'k' || i FROM generate_series(1, 90, 7) i) q) a,
                         LATERAL (SELECT bulkhead.score_explain((SELECT jsonb_agg(jsonb_build_object('id', k, 'when', jsonb_build_object('or', jsonb_build_array(jsonb_build_object('val', jsonb_build_array(k)), true)), 'score', 1)) FROM unnest(keys) k), d) AS x) b
                   WHERE jsonb_typeof(d) = 'object'"#;
    assert_eq!(owner.rows(many).await, [["0", "t"]]);
    let elements = r#"SELECT count(*) FILTER (WHERE bulkhead.jsonlogic(jsonb_build_object('var', (n - 1)::text), d) IS DISTINCT FROM v), count(*) > 1000
                        FROM documents, LATERAL jsonb_array_elements(d) WITH ORDINALITY AS e (v, n) WHERE jsonb_typeof(d) = 'array'"#;
    assert_eq!(owner.rows(elements).await, [["0", "t"]]);
}

async fn numbers_are_exact(db: Database) {
    let app = db.connect("app").await;
    for (rule, wanted) in [
        (r#"{"+": [9007199254740992, 1]}"#, "9007199254740993"),
        (r#"{"+": [0.1, 0.2]}"#, "0.3"),
        (r#"{"===": [{"+": [0.1, 0.2]}, 0.3]}"#, "true"),
        (r#"{"-": [{"+": [1e400, 1]}, 1e400]}"#, "1"),
        (r#"{"*": [1e400, 1e-400]}"#, "t"),
        (r#"{"+": [-0, 0]}"#, "0"),
        (r#"{"===": [-0, 0]}"#, "true"),
        (r#"{"+": [123456789012345678901234567890.5, 0.5]}"#, "123456789012345678901234567891.0"),
        (r#"{"+": [9223372036854775807, 1]}"#, "9223372036854775808"),
        (r#"{"-": [-9223372036854775808]}"#, "9223372036854775808"),
        (r#"{"*": [9223372036854775807, 9223372036854775807]}"#, "85070591730234615847396907784232501249"),
        (r#"{"/": [1, 3]}"#, "0.33333333333333333333"),
        (r#"{"/": [10, 4]}"#, "2.5"),
        (r#"{"%": [-7.5, 2]}"#, "-1.5"),
        (r#"{"ceil": [-1.5]}"#, "-1"),
        (r#"{"floor": [-1.5]}"#, "-2"),
        (r#"{"abs": [-12345678901234567890.25]}"#, "12345678901234567890.25"),
        (r#"{"cat": [1.50, "|", 100, "|", 0.0]}"#, "\"1.5|100|0\""),
    ] {
        let got = app.one(&format!("SELECT bulkhead.jsonlogic('{rule}', '{{}}')")).await;
        if wanted == "t" {
            assert_eq!(app.one(&format!("SELECT trim_scale({got}) = 1")).await, "t", "{rule}");
        } else {
            assert_eq!(got, wanted, "{rule}");
        }
    }
    // What numeric cannot hold is an error, and not another number.
    for (rule, largest) in [
        (r#"{"*": [{"var": ""}, 1]}"#, Some("1e131071")),
        (r#"{"*": [{"var": ""}, 10]}"#, None),
        (r#"{"+": [{"*": [{"var": ""}, 5]}, {"*": [{"var": ""}, 5]}]}"#, None),
        (r#"{"+": ["1e131072", 0]}"#, None),
        // More digits after the point than are kept, besides.
        (r#"{"*": [{"+": [{"var": ""}, 1e-16383]}, 1000000000000000000000000.5]}"#, None),
    ] {
        let sql = format!("bulkhead.jsonlogic('{rule}', to_jsonb(1e131071))");
        match largest {
            Some(largest) => assert_eq!(app.one(&format!("SELECT {sql} = to_jsonb({largest})")).await, "t"),
            None => drop(app.refused(&format!("SELECT {sql}")).await.state("22023")),
        }
    }
}

/// Pairs of numbers of every shape: table `pairs (a, b)`.
async fn pairs(db: &Database) -> Client {
    let owner = documents(db, 1).await;
    owner.run("CREATE TABLE pairs AS SELECT number()::numeric AS a, number()::numeric AS b FROM generate_series(1, 20000)").await;
    owner
}

async fn arithmetic_is_numerics(db: Database) {
    let owner = pairs(&db).await;
    for (operator, sql) in [("+", "a + b"), ("-", "a - b"), ("*", "a * b")] {
        let differs = format!(
            r#"SELECT count(*) FROM pairs WHERE bulkhead.jsonlogic('{{"{operator}": [{{"var": "a"}}, {{"var": "b"}}]}}', jsonb_build_object('a', a, 'b', b)) #>> '{{}}' <> ({sql})::text"#
        );
        assert_eq!(owner.one(&differs).await, "0", "{operator}");
    }
    for (operator, sql) in [("/", "a / b"), ("%", "a % b")] {
        let differs = format!(
            r#"SELECT a || ' {operator} ' || b FROM pairs WHERE b <> 0 AND (bulkhead.jsonlogic('{{"{operator}": [{{"var": "a"}}, {{"var": "b"}}]}}', jsonb_build_object('a', a, 'b', b)) #>> '{{}}')::numeric <> {sql} LIMIT 3"#
        );
        assert_eq!(owner.column(&differs).await, Vec::<String>::new(), "{operator}");
    }
    for (function, sql) in [("abs", "abs(a)"), ("ceil", "ceil(a)"), ("floor", "floor(a)")] {
        let differs = format!(
            r#"SELECT a FROM pairs WHERE (bulkhead.jsonlogic('{{"{function}": {{"var": "a"}}}}', jsonb_build_object('a', a)) #>> '{{}}')::numeric <> {sql} LIMIT 3"#
        );
        assert_eq!(owner.column(&differs).await, Vec::<String>::new(), "{function}");
    }
    // Texts are read as numeric reads them, and sums of a rule set are numeric's.
    let text = r#"SELECT count(*) FROM pairs WHERE bulkhead.jsonlogic('{"+": [{"var": "a"}]}', jsonb_build_object('a', a::text)) #>> '{}' <> a::text"#;
    assert_eq!(owner.one(text).await, "0");
    let sums = r#"SELECT count(*) FROM pairs WHERE (bulkhead.score_explain('[{"id": "a", "when": true, "score": {"var": "a"}}, {"id": "b", "when": true, "score": {"var": "b"}}]'::jsonb, jsonb_build_object('a', a, 'b', b)) ->> 'score') <> (0 + a + b)::text"#;
    assert_eq!(owner.one(sums).await, "0");
}

async fn comparisons_are_numerics(db: Database) {
    let owner = pairs(&db).await;
    for (operator, sql) in [("<", "<"), ("<=", "<="), (">", ">"), (">=", ">="), ("==", "="), ("!==", "<>")] {
        let differs = format!(
            r#"SELECT count(*) FROM pairs WHERE bulkhead.jsonlogic('{{"{operator}": [{{"var": "a"}}, {{"var": "b"}}]}}', jsonb_build_object('a', a, 'b', b))::boolean <> (a {sql} b)
                  OR bulkhead.jsonlogic('{{"{operator}": [{{"var": "a"}}, {{"var": "b"}}]}}', jsonb_build_object('a', a, 'b', a * 1.000))::boolean <> (a {sql} a)"#
        );
        assert_eq!(owner.one(&differs).await, "0", "{operator}");
    }
}

async fn scalars_and_odd_keys(db: Database) {
    let app = db.connect("app").await;
    for (rule, document, wanted) in [
        (r#"{"var": ""}"#, "17", "17"),
        (r#"{"var": ""}"#, "\"text\"", "\"text\""),
        (r#"{"var": "a"}"#, "17", "null"),
        (r#"{"var": "a"}"#, "null", "null"),
        (r#"{"val": [""]}"#, r#"{"": 3}"#, "3"),
        (r#"{"val": ["a.b"]}"#, r#"{"a.b": 3, "a": {"b": 4}}"#, "3"),
        (r#"{"var": "a.b"}"#, r#"{"a.b": 3, "a": {"b": 4}}"#, "4"),
        (r#"{"var": "a.0.b"}"#, r#"{"a": [{"b": 5}]}"#, "5"),
        (r#"{"var": "a.0"}"#, r#"{"a": {"0": 6}}"#, "6"),
        (r#"{"var": "a.00"}"#, r#"{"a": [7]}"#, "null"),
        (r#"{"var": "a"}"#, r#"{"a": 1, "a": 2}"#, "2"),
        ("{\"var\": \"h\u{e9}\u{1f600}\"}", "{\"h\u{e9}\u{1f600}\": 8}", "8"),
        (r#"{"var": ["a", 9]}"#, r#"{"a": null}"#, "null"),
        (r#"{"var": ["a", 9]}"#, "{}", "9"),
        (r#"{"exists": "a"}"#, r#"{"a": null}"#, "true"),
        (r#"{"missing": ["a", "b"]}"#, r#"{"a": null, "b": 0}"#, "[\"a\"]"),
        ("{\"length\": \"\u{1f600}\u{e9}a\"}", "{}", "3"),
        ("{\"substr\": [\"\u{1f600}\u{e9}abc\", 1, 2]}", "{}", "\"\u{e9}a\""),
        ("{\"upper\": \"stra\u{df}e\"}", "{}", "\"STRASSE\""),
    ] {
        assert_eq!(
            app.one(&format!("SELECT bulkhead.jsonlogic('{rule}', '{document}')")).await,
            wanted,
            "{rule} {document}"
        );
    }
}

async fn a_rule_is_the_same_however_it_is_asked(db: Database) {
    let owner = documents(&db, 400).await;
    owner.run("GRANT SELECT ON documents TO app").await;
    let rules = r#"[{"id": "a", "when": {"and": [{"exists": "aa"}, {"!=": [{"var": "aa"}, null]}]}, "score": 1}, {"id": "b", "when": {"some": [{"var": "bb"}, {"var": ""}]}, "score": 2},
                    {"id": "c", "when": {"in": [{"var": "c"}, ["a", "b", "c", "d"]]}, "score": 4}, {"id": "d", "when": {"or": [{"==": [{"var": "dddd"}, "x"]}, {"var": "k1"}]}, "score": 8}]"#;
    db.admin(&format!("SELECT bulkhead.put_shared_rule_set('lead', '{rules}')")).unwrap();
    // The stored document, a copy that came by text, and one rule at a time.
    let differs = format!(
        r#"SELECT count(*) FROM documents, LATERAL (SELECT bulkhead.score('lead', d) AS s) x
            WHERE s <> bulkhead.score('lead', d::text::jsonb) OR s <> (bulkhead.score_explain('{rules}'::jsonb, d) ->> 'score')::numeric
               OR s <> (SELECT coalesce(sum((r ->> 'score')::numeric), 0) FROM jsonb_array_elements('{rules}') r
                         WHERE bulkhead.jsonlogic(jsonb_build_object('!!', jsonb_build_array(r -> 'when')), d) = 'true')"#
    );
    assert_eq!(owner.one(&differs).await, "0");
    assert_ne!(owner.one("SELECT sum(bulkhead.score('lead', d)) FROM documents").await, "0");
}

async fn in_another_encoding(db: Database) {
    let name = format!("{}_latin", db.name);
    db.admin(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"))
        .unwrap();
    db.cluster.admin(&name, "CREATE EXTENSION bulkhead").unwrap();
    let ask = |sql: &str| db.cluster.admin(&name, &format!("SET client_encoding = 'UTF8'; {sql}")).unwrap();
    assert_eq!(
        ask("SELECT bulkhead.jsonlogic('{\"length\": {\"var\": \"t\"}}', jsonb_build_object('t', 'h\u{e9}h'))"),
        "3"
    );
    assert_eq!(
        ask(
            "SELECT bulkhead.jsonlogic('{\"substr\": [{\"var\": \"h\u{e9}\"}, 1]}', '{\"h\u{e9}\": \"a\u{e9}b\"}') #>> '{}'"
        ),
        "\u{e9}b"
    );
    db.cluster.admin("postgres", &format!("DROP DATABASE {name}")).unwrap();
}
