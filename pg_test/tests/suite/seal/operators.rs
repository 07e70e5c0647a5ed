//! Operators that are not leakproof: what they are handed while a plan is made, and by an index of their own. For plain roles and, under the
//! seal, for superusers. Leak paths 37 and 40.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{NOTHING, ROLES, acting, orders};

pub fn tests() -> Vec<Trial> {
    crate::tests![path_37_statistics_are_not_shown_to_a_leaky_operator, path_40_operators_with_an_index_of_their_own]
}

async fn path_37_statistics_are_not_shown_to_a_leaky_operator(db: Database) {
    let owner = orders(&db).await;
    db.admin(
        "INSERT INTO orders SELECT n, (SELECT tenant_id FROM orders WHERE id = 4), 'secret' FROM generate_series(10, 200) n;
         ANALYZE orders",
    )
    .unwrap();
    owner
        .run(
            "CREATE TABLE bare (item text); INSERT INTO bare SELECT 'open' FROM generate_series(1, 100); ANALYZE bare;
             GRANT SELECT ON bare TO PUBLIC;
             CREATE FUNCTION tells(text, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
               $$ BEGIN RAISE NOTICE 'told %', $1; RETURN false; END $$;
             CREATE OPERATOR public.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = tells, RESTRICT = eqsel)",
        )
        .await;
    for role in ROLES {
        let client = acting(&db, role).await;
        client.notices();
        // The planner does ask it about common values, where nothing forbids that.
        client.run("EXPLAIN SELECT * FROM bare WHERE item OPERATOR(public.<<<) 'x'").await;
        assert!(client.notices().join(" ").contains("told open"), "{role}");
        for table in ["orders", "(SELECT * FROM orders WHERE id > 0)"] {
            client.run(&format!("EXPLAIN SELECT * FROM {table} o WHERE item OPERATOR(public.<<<) 'x'")).await;
            assert_eq!(client.notices(), NOTHING, "{role}: {table}");
        }
    }
}

/// Each finds B's order 4 where nothing holds it, and nothing for A; its index is not used before the tenant's condition.
async fn path_40_operators_with_an_index_of_their_own(db: Database) {
    let owner = orders(&db).await;
    db.admin(
        "CREATE EXTENSION pg_trgm; ALTER TABLE orders ADD doc jsonb, ADD words tsvector;
         UPDATE orders SET item = 'secret number ' || id, doc = jsonb_build_object('n', id, 'k' || id, 1), words = to_tsvector('simple', 'word' || id)",
    )
    .unwrap();
    owner
        .run(
            "CREATE INDEX by_trigram ON orders USING gin (item gin_trgm_ops); CREATE INDEX by_doc ON orders USING gin (doc);
             CREATE INDEX by_path ON orders USING gin (doc jsonb_path_ops); CREATE INDEX by_words ON orders USING gin (words);
             CREATE INDEX by_distance ON orders USING gist (item gist_trgm_ops); ANALYZE orders",
        )
        .await;
    for condition in [
        "item % 'secret number 4' AND item LIKE '%4'",
        "item ILIKE '%NUMBER 4%'",
        "item ~ 'number 4'",
        "'number 4' <% item AND item LIKE '%4'",
        r#"doc @> '{"n": 4}'"#,
        "doc ? 'k4'",
        "doc ?| ARRAY['k4', 'k9']",
        "doc @? '$ ? (@.n == 4)'",
        "doc @@ '$.n == 4'",
        "words @@ 'word4'::tsquery",
    ] {
        let query = format!("SELECT id FROM orders WHERE {condition}");
        assert_eq!(db.admin(&query).unwrap(), "4", "{condition}");
        for role in ROLES {
            let client = acting(&db, role).await;
            client.run("SET enable_seqscan = off").await;
            assert_eq!(client.column(&query).await, NOTHING, "{role}: {condition}");
            let plan = client.column(&format!("EXPLAIN (COSTS off) {query}")).await.join("\n");
            assert!(plan.contains("tenant_id()") && !plan.contains(" by_"), "{role}: {condition}: {plan}");
        }
    }
    for role in ROLES {
        let nearest = "SELECT id FROM orders ORDER BY item <-> 'secret number 4', id LIMIT 5";
        let mut ids = acting(&db, role).await.column(nearest).await;
        ids.sort();
        assert_eq!(ids, ["1", "2", "3"], "{role}: the nearest");
    }
}
