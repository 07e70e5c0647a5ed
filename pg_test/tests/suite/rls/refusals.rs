//! protect() refuses what it cannot make safe, and says what to do.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{B, NO_ROWS, NOTHING, acting, assert_same, bare_orders, orders, picture, registered, seen_by};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        only_the_owner_protects,
        a_member_of_the_owning_role_protects,
        an_unknown_column_names_the_candidates,
        a_table_without_candidates_says_so,
        unfit_types_are_refused,
        a_domain_over_an_unfit_type_is_refused,
        citext_is_refused,
        a_nondeterministic_collation_is_refused,
        nulls_are_counted,
        nulls_of_a_child_are_counted,
        nulls_behind_forced_policies_are_refused,
        what_is_no_table_is_refused,
        a_foreign_table_is_refused,
        a_temporary_table_is_refused,
        system_tables_are_refused,
        null_arguments_are_refused,
        a_refused_call_changes_nothing,
        a_large_table_wants_its_index_first,
        any_valid_index_that_leads_with_the_tenant_will_do,
        a_partial_or_invalid_index_will_not_do,
        a_small_table_gets_its_index,
    ]
}

async fn only_the_owner_protects(db: Database) {
    let owner = orders(&db).await;
    owner
        .run("CREATE TABLE free (tenant_id uuid); CREATE TABLE prices (id int); SELECT bulkhead.share('prices')")
        .await;
    let before = registered(&owner).await;
    for role in ["app", "svc"] {
        let client = db.connect(role).await;
        for (call, table) in [
            ("protect('free')", "free"),
            ("protect('orders')", "orders"),
            ("protect('orders', 'id')", "orders"),
            ("protect_plan('free')", "free"),
            ("unprotect('orders')", "orders"),
            ("unprotect('prices')", "prices"),
            ("share('free')", "free"),
            ("share('orders')", "orders"),
        ] {
            let refused = client.refused(&format!("SELECT bulkhead.{call}")).await;
            refused
                .state("42501")
                .message(&format!("must be owner of table public.{table}"))
                .detail("Only a table's owner may change its protection.")
                .hint("Call the function as the owner, or have the owner call it.");
        }
        client
            .refused("SELECT bulkhead.unprotect_all()")
            .await
            .state("42501")
            .message_contains("must be owner of table public.");
    }
    assert_eq!(registered(&owner).await, before);
}

async fn a_member_of_the_owning_role_protects(db: Database) {
    bare_orders(&db).await;
    let member = format!("member_of_{}", db.name);
    db.connect("postgres").await.run(&format!("CREATE ROLE {member} LOGIN IN ROLE owner")).await;
    let client = db.connect(&member).await;
    client.run("SELECT bulkhead.protect('orders')").await;
    assert_eq!(seen_by(&db, B, "orders", "id").await, ["4", "5"]);
    client.refused("SELECT * FROM orders").await.state("42501");
    db.past_the_seal(&member).await.run("SELECT bulkhead.unprotect('orders')").await;
    db.admin(&format!("DROP OWNED BY {member}; DROP ROLE {member}")).unwrap();
}

async fn an_unknown_column_names_the_candidates(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run("CREATE TABLE t (name text, paid boolean, org_id uuid, \"Site Id\" int, gone uuid, n bigint); ALTER TABLE t DROP gone")
        .await;
    for column in ["tenant_id", "gone", "ORG_ID", "ctid", "tableoid"] {
        owner
            .refused(&format!("SELECT bulkhead.protect('t', '{column}')"))
            .await
            .state("22023")
            .message(&format!("table public.t has no column \"{column}\""))
            .hint("Name the tenant column as the second argument. Candidates: org_id, name, \"Site Id\", n.");
    }
}

async fn a_table_without_candidates_says_so(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE t (paid boolean)").await;
    let refused = owner.refused("SELECT bulkhead.protect('t')").await;
    refused.state("22023").hint("The table has no column of type uuid, text, varchar, bigint or integer.");
}

async fn unfit_types_are_refused(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TYPE mood AS ENUM ('sad', 'ok')").await;
    for (index, (column_type, shown)) in [
        ("char(3)", "character(3)"),
        ("char", "character(1)"),
        ("\"char\"", "\"char\""),
        ("name", "name"),
        ("jsonb", "jsonb"),
        ("smallint", "smallint"),
        ("numeric", "numeric"),
        ("bytea", "bytea"),
        ("boolean", "boolean"),
        ("uuid[]", "uuid[]"),
        ("mood", "mood"),
        ("oid", "oid"),
    ]
    .into_iter()
    .enumerate()
    {
        let shown = if column_type == "mood" { "public.mood" } else { shown };
        owner.run(&format!("CREATE TABLE t{index} (tenant_id {column_type})")).await;
        owner
            .refused(&format!("SELECT bulkhead.protect('t{index}')"))
            .await
            .state("22023")
            .message(&format!(
                "column tenant_id of public.t{index} is of type {shown}, which cannot tell tenants apart safely"
            ))
            .hint_contains("uuid, text, varchar, bigint or integer");
    }
    assert_eq!(registered(&owner).await, NO_ROWS);
}

async fn a_domain_over_an_unfit_type_is_refused(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE DOMAIN code AS char(3); CREATE TABLE a (tenant_id code);
             CREATE DOMAIN inner_code AS smallint; CREATE DOMAIN outer_code AS inner_code; CREATE TABLE b (tenant_id outer_code)",
        )
        .await;
    owner.refused("SELECT bulkhead.protect('a')").await.state("22023").message_contains("of type public.code");
    owner.refused("SELECT bulkhead.protect('b')").await.state("22023").message_contains("of type public.outer_code");
}

async fn citext_is_refused(db: Database) {
    db.admin("CREATE EXTENSION citext").unwrap();
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE t (tenant_id citext); CREATE DOMAIN c AS citext; CREATE TABLE u (tenant_id c)").await;
    for table in ["t", "u"] {
        let refused = owner.refused(&format!("SELECT bulkhead.protect('{table}')")).await;
        refused.state("22023").message_contains("which cannot tell tenants apart safely").hint_contains("TYPE text");
    }
}

async fn a_nondeterministic_collation_is_refused(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE t (tenant_id text COLLATE caseless);
             CREATE DOMAIN site AS text COLLATE caseless; CREATE TABLE u (tenant_id site)",
        )
        .await;
    for table in ["t", "u"] {
        owner
            .refused(&format!("SELECT bulkhead.protect('{table}')"))
            .await
            .state("22023")
            .message(&format!(
                "column tenant_id of public.{table} has a nondeterministic collation, under which different tenants can be equal"
            ))
            .hint_contains("COLLATE \"C\"");
    }
}

async fn nulls_are_counted(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("INSERT INTO orders SELECT i, NULL, 'lost' FROM generate_series(6, 1239) i").await;
    owner
        .refused("SELECT bulkhead.protect('orders')")
        .await
        .state("55000")
        .message("public.orders has 1234 rows without a tenant")
        .detail_contains("tenant_id is NULL")
        .hint_contains("SELECT * FROM public.orders WHERE tenant_id IS NULL");
    owner.run("DELETE FROM orders WHERE tenant_id IS NULL; SELECT bulkhead.protect('orders')").await;
}

async fn nulls_of_a_child_are_counted(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("CREATE TABLE old_orders () INHERITS (orders); INSERT INTO old_orders VALUES (6), (7)").await;
    let refused = owner.refused("SELECT bulkhead.protect('orders')").await;
    refused.state("55000").message("public.orders has 2 rows without a tenant");
}

async fn nulls_behind_forced_policies_are_refused(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run(
            "INSERT INTO orders VALUES (6, NULL, 'lost');
             ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY mine ON orders USING (tenant_id IS NOT NULL)",
        )
        .await;
    let refused = owner.refused("SELECT bulkhead.protect('orders')").await;
    refused.state("55000").message("public.orders has 1 rows without a tenant");
    assert_eq!(registered(&owner).await, NO_ROWS);
}

async fn what_is_no_table_is_refused(db: Database) {
    let owner = bare_orders(&db).await;
    owner
        .run(
            "CREATE VIEW a_view AS SELECT * FROM orders;
             CREATE MATERIALIZED VIEW a_summary AS SELECT * FROM orders;
             CREATE SEQUENCE a_sequence;
             CREATE TYPE a_type AS (tenant_id uuid)",
        )
        .await;
    for (name, what, hint) in [
        ("a_view", "a view", "security_invoker"),
        ("a_summary", "a materialized view", "make it a table"),
        ("a_sequence", "not a table", "Name a table"),
        ("orders_pkey", "not a table", "Name a table"),
        ("a_type", "not a table", "Name a table"),
    ] {
        for call in ["protect", "protect_plan", "share", "unprotect"] {
            owner
                .refused(&format!("SELECT bulkhead.{call}('{name}')"))
                .await
                .state("22023")
                .message(&format!("public.{name} is {what} and cannot be protected"))
                .hint_contains(hint);
        }
    }
    let refused = owner.refused("SELECT bulkhead.protect(4000000000::oid::regclass)").await;
    refused.state("22023").message("there is no relation with oid 4000000000");
    owner.refused("SELECT bulkhead.protect('no_such_table')").await.state("42P01");
}

async fn a_foreign_table_is_refused(db: Database) {
    db.admin(
        "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; GRANT USAGE ON FOREIGN SERVER far TO owner",
    )
    .unwrap();
    let owner = db.connect("owner").await;
    owner.run("CREATE FOREIGN TABLE abroad (tenant_id uuid) SERVER far").await;
    for call in ["protect", "share"] {
        let refused = owner.refused(&format!("SELECT bulkhead.{call}('abroad')")).await;
        refused
            .state("22023")
            .message("public.abroad is a foreign table and cannot be protected")
            .hint_contains("server");
    }
}

async fn a_temporary_table_is_refused(db: Database) {
    let owner = db.connect("owner").await;
    db.admin(&format!("GRANT TEMPORARY ON DATABASE {} TO owner", db.name)).unwrap();
    owner.run("CREATE TEMP TABLE t (tenant_id uuid)").await;
    for call in ["protect", "share"] {
        let refused = owner.refused(&format!("SELECT bulkhead.{call}('t')")).await;
        refused.state("22023").message_contains("is a temporary table and cannot be protected");
    }
}

async fn system_tables_are_refused(db: Database) {
    for role in ["owner", "postgres"] {
        let client = db.connect(role).await;
        for table in ["pg_catalog.pg_class", "pg_catalog.pg_authid", "information_schema.sql_parts"] {
            let refused = client.refused(&format!("SELECT bulkhead.protect('{table}', 'relname')")).await;
            refused
                .state("22023")
                .message(&format!("{table} is a system table"))
                .hint("Only user tables can be protected.");
        }
    }
}

async fn null_arguments_are_refused(db: Database) {
    let owner = orders(&db).await;
    let before = picture(&owner, "orders").await;
    for call in ["protect(NULL)", "protect('orders', NULL)", "protect_plan(NULL)", "unprotect(NULL)", "share(NULL)"] {
        owner.refused(&format!("SELECT bulkhead.{call}")).await.state("22023");
    }
    assert_same(&picture(&owner, "orders").await, &before, "orders");
}

async fn a_refused_call_changes_nothing(db: Database) {
    let owner = bare_orders(&db).await;
    owner.run("INSERT INTO orders VALUES (6, NULL, 'lost')").await;
    let before = picture(&owner, "orders").await;
    owner.refused("SELECT bulkhead.protect('orders')").await.state("55000");
    assert_same(&picture(&owner, "orders").await, &before, "orders");
    // Caught in a savepoint, it still must not leave half of its work.
    owner
        .run("DO $$ BEGIN PERFORM bulkhead.protect('orders'); EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END $$")
        .await;
    assert_same(&picture(&owner, "orders").await, &before, "orders");
    assert_eq!(registered(&owner).await, NO_ROWS);
    // And what the failed call had switched off is on again: DDL is still followed.
    owner.run("DELETE FROM orders WHERE id = 6; SELECT bulkhead.protect('orders'); CREATE TABLE later () INHERITS (orders)").await;
    assert_eq!(registered(&owner).await.len(), 2);
}

/// One row more than protect() indexes by itself.
const LARGE: &str = "CREATE TABLE large (id int, tenant_id bigint, n int);
                     INSERT INTO large SELECT i, i % 3, 0 FROM generate_series(1, 100001) i";

async fn a_large_table_wants_its_index_first(db: Database) {
    let owner = db.connect("owner").await;
    owner.run(LARGE).await;
    for analyzed in [false, true] {
        if analyzed {
            owner.run("ANALYZE large").await;
        }
        let refused = owner.refused("SELECT bulkhead.protect('large')").await;
        let hint = "CREATE INDEX CONCURRENTLY ON public.large (tenant_id);";
        refused.state("55000").message_contains("public.large has no index that begins with tenant_id").hint(hint);
    }
    owner.run("CREATE INDEX CONCURRENTLY ON public.large (tenant_id)").await;
    let done = owner.column("SELECT bulkhead.protect('large')").await;
    assert!(!done.iter().any(|line| line.contains("INDEX")), "{done:?}");
    assert_eq!(seen_by(&db, "2", "large", "count(*)").await, ["33334"]);
}

async fn any_valid_index_that_leads_with_the_tenant_will_do(db: Database) {
    let owner = db.past_the_seal("owner").await;
    owner.run(LARGE).await;
    for (make, drop) in [
        ("CREATE INDEX i ON large (tenant_id, id)", "DROP INDEX i"),
        ("CREATE UNIQUE INDEX i ON large (tenant_id, id)", "DROP INDEX i"),
        ("CREATE INDEX i ON large (tenant_id DESC) INCLUDE (n)", "DROP INDEX i"),
        ("ALTER TABLE large ADD CONSTRAINT i UNIQUE (tenant_id, id)", "ALTER TABLE large DROP CONSTRAINT i"),
        ("ALTER TABLE large ADD CONSTRAINT i PRIMARY KEY (tenant_id, id)", "ALTER TABLE large DROP CONSTRAINT i"),
    ] {
        owner.run(make).await;
        let done = owner.column("SELECT bulkhead.protect('large')").await;
        assert!(!done.is_empty() && !done.iter().any(|line| line.contains("INDEX")), "{make}: {done:?}");
        owner.run("SELECT bulkhead.unprotect('large')").await;
        owner.run(drop).await;
    }
}

async fn a_partial_or_invalid_index_will_not_do(db: Database) {
    let owner = db.connect("owner").await;
    owner.run(LARGE).await;
    for index in [
        "CREATE INDEX i ON large (tenant_id) WHERE id > 0",
        "CREATE INDEX i ON large (id, tenant_id)",
        "CREATE INDEX i ON large ((tenant_id + 0))",
    ] {
        owner.run(index).await;
        owner.refused("SELECT bulkhead.protect('large')").await.state("55000").message_contains("no index");
        owner.run("DROP INDEX i").await;
    }
    owner.refused("CREATE UNIQUE INDEX CONCURRENTLY i ON large (tenant_id)").await.state("23505");
    assert_eq!(owner.one("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass").await, "f");
    owner.refused("SELECT bulkhead.protect('large')").await.state("55000").message_contains("no index");
}

async fn a_small_table_gets_its_index(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE small (id int, tenant_id bigint); INSERT INTO small SELECT i, 1 FROM generate_series(1, 100000) i").await;
    let done = owner.column("SELECT bulkhead.protect('small')").await;
    assert_eq!(done[0], "CREATE INDEX ON public.small (tenant_id)");
    let app = acting(&db, "app", "1").await;
    let plan = app.column("SET enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT * FROM small").await.join("\n");
    assert!(
        plan.contains("Index Cond: (tenant_id = tenant_id_bigint())")
            || plan.contains("Index Cond: (tenant_id = bulkhead.tenant_id_bigint())"),
        "{plan}"
    );
    assert_ne!(done, NOTHING);
}
