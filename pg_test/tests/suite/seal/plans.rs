//! Plans and cursors under the seal: what is evaluated first, what is cached, and what outlives its transaction.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{ROLES, acting, orders};
use super::{A, B};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        leaky_functions_see_no_foreign_row,
        the_tenant_is_asked_before_a_leaky_function,
        explain_analyze_counts_no_foreign_row_through_the_tenants_index,
        held_cursors_close_when_the_tenant_changes,
        plans_follow_tenant_and_role,
    ]
}

async fn leaky_functions_see_no_foreign_row(db: Database) {
    orders(&db).await;
    db.admin(
        "CREATE FUNCTION shout(id int, item text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
           'BEGIN RAISE NOTICE ''%'', item; RETURN true; END';
         CREATE FUNCTION shout(t anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
           'BEGIN RAISE NOTICE ''%'', t; RETURN true; END'",
    )
    .unwrap();
    for role in ROLES {
        let client = acting(&db, role).await;
        for query in [
            "SELECT id FROM orders WHERE shout(id, item)",
            "SELECT id FROM orders o WHERE shout(o)",
            "SELECT id FROM orders WHERE CASE WHEN shout(id, item) THEN true END",
            "UPDATE orders SET item = item WHERE shout(id, item)",
            "SELECT o.id FROM orders o JOIN generate_series(1, 9) g ON g = o.id AND shout(o.id, o.item)",
            "SELECT id FROM orders WHERE 1 / (id - 4) IS NOT NULL",
        ] {
            client.run(query).await;
            let heard = client.notices().join(" ");
            assert!(!heard.contains("item 4") && !heard.contains("item 5"), "{role}: {query}: {heard}");
        }
    }
}

async fn the_tenant_is_asked_before_a_leaky_function(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let plan = acting(&db, role).await.column("EXPLAIN (COSTS off) SELECT * FROM orders WHERE item ~ 'x'").await;
        let plan = plan.join("\n");
        let border = plan.find("tenant_id()").unwrap_or_else(|| panic!("{role}: {plan}"));
        assert!(border < plan.find('~').unwrap_or(usize::MAX), "the tenant comes first for {role}: {plan}");
    }
}

/// Through the tenant's index no count is one of foreign rows. Without it, the rows removed are, as docs/threat-model.md says.
async fn explain_analyze_counts_no_foreign_row_through_the_tenants_index(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        let explain =
            "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT * FROM orders WHERE item ~ 'item 3'";
        client.run("SET enable_seqscan = off; SET enable_bitmapscan = off").await;
        let removed = "Rows Removed by Filter: ";
        let plan = client.column(explain).await.join("\n");
        assert!(plan.contains("Index Cond: (tenant_id = "), "{role}: {plan}");
        assert!(plan.contains("actual rows=1"), "{role}: {plan}");
        assert!(plan.contains(&format!("{removed}2")), "{role}: A's two others alone: {plan}");
        client.run("SET enable_seqscan = on; SET enable_indexscan = off").await;
        let plan = client.column(explain).await.join("\n");
        assert!(plan.contains("Seq Scan") && plan.contains(&format!("{removed}4")), "{role}: {plan}");
    }
}

async fn held_cursors_close_when_the_tenant_changes(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        client.run("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders ORDER BY id").await;
        assert_eq!(client.column("FETCH 1 FROM c").await, ["1"], "{role}");
        client.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
        client.refused("FETCH ALL FROM c").await.state("34000");
        client.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        client
            .run("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders ORDER BY id; RESET bulkhead.tenant_context")
            .await;
        client.refused("FETCH ALL FROM c").await.state("34000");
        client
            .run(&format!("SET bulkhead.tenant_context = '{A}'; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders"))
            .await;
        client.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
        client
            .refused("DO $$ DECLARE c refcursor := 'c'; n int; BEGIN FETCH c INTO n; RAISE NOTICE '%', n; END $$")
            .await
            .state("34000");
        client
            .run(&format!("SET bulkhead.tenant_context = '{A}'; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders"))
            .await;
        client
            .refused(&format!(
                "BEGIN; SELECT set_config('bulkhead.tenant_context', '{B}', true);
             SELECT cursor_to_xml('c', 10, true, false, '')"
            ))
            .await
            .state("34000");
    }
}

async fn plans_follow_tenant_and_role(db: Database) {
    orders(&db).await;
    let client = acting(&db, "postgres").await;
    for mode in ["force_generic_plan", "force_custom_plan", "auto"] {
        client
            .run(&format!(
                "SET plan_cache_mode = {mode}; PREPARE p(int) AS SELECT id FROM orders WHERE id > $1 ORDER BY 1"
            ))
            .await;
        for _ in 0..3 {
            for (tenant, rows) in [(A, &["1", "2", "3"][..]), (B, &["4", "5"])] {
                client.run(&format!("SET bulkhead.tenant_context = '{tenant}'")).await;
                for role in ROLES {
                    client.run(&format!("SET ROLE {role}")).await;
                    assert_eq!(client.column("EXECUTE p(0)").await, rows, "{mode} {role}");
                }
                client.run("RESET ROLE").await;
            }
            client.run("RESET bulkhead.tenant_context").await;
            client.refused("EXECUTE p(0)").await.state("42501");
        }
        client.run("DEALLOCATE p").await;
    }
}
