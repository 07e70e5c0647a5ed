//! Identifiers that want to be SQL are names all the same.

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{NO_ROWS, NOTHING, acting, assert_same, picture, registered};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        hostile_names_are_protected,
        hostile_names_are_planned,
        hostile_names_are_shared,
        hostile_partitions_are_followed,
        hostile_names_are_shown_quoted_in_errors,
        a_search_path_with_impostors_changes_nothing,
        names_beyond_ascii_in_another_encoding_are_refused,
    ]
}

const HOSTILE: [&str; 14] = [
    "Mixed Case",
    "with.dot",
    "quote\"inside",
    "it's",
    "semi; DROP TABLE canary; --",
    "'); DROP TABLE canary; --",
    "select",
    "größe_日本",
    "$$ $1 %s %I {}",
    "back\\slash",
    " leading and trailing ",
    "tab\tand\nnewline",
    "a_name_of_exactly_sixty_three_bytes_which_is_the_longest_that_is",
    "/* comment */ -- ",
];

fn quoted(name: &str) -> String {
    // The server truncates longer ones with a notice; so that both sides mean the same name, it is cut here.
    let name: String = name
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= 63).then_some(c)
        })
        .collect();
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table whose schema, own name and tenant column are all that name.
struct Named {
    table: String,
    column: String,
    protect: String,
}

async fn named(owner: &Client, name: &str) -> Named {
    let table = format!("{0}.{0}", quoted(name));
    let column = quoted(name);
    owner
        .run(&format!(
            "SET standard_conforming_strings = on;
             CREATE SCHEMA {column}; GRANT USAGE ON SCHEMA {column} TO app;
             CREATE TABLE {table} (n int, {column} text); INSERT INTO {table} VALUES (1, 'h2o'), (2, 'all_county');
             GRANT SELECT, INSERT ON {table} TO app"
        ))
        .await;
    let bare = column[1..column.len() - 1].replace("\"\"", "\"");
    let protect = format!("SELECT bulkhead.protect({}, {})", literal(&table), literal(&bare));
    Named { table, column, protect }
}

async fn hostile_names_are_protected(db: Database) {
    let owner = db.past_the_seal("owner").await;
    owner.run("CREATE TABLE canary (id int)").await;
    let app = acting(&db, "app", "h2o").await;
    for name in HOSTILE {
        let Named { table, column, protect } = named(&owner, name).await;
        let bare = picture(&owner, &table).await;
        assert_eq!(owner.column(&protect).await.len(), 7, "{name}");
        assert_eq!(owner.column(&protect).await, NOTHING, "{name}");
        assert_eq!(app.column(&format!("SELECT n FROM {table}")).await, ["1"], "{name}");
        app.refused(&format!("INSERT INTO {table} VALUES (3, 'all_county')")).await.state("42501");
        app.run(&format!("INSERT INTO {table} VALUES (3)")).await;
        owner.run(&format!("ALTER POLICY bulkhead_floor ON {table} USING (true)")).await;
        assert_eq!(owner.column(&protect).await.len(), 2, "{name}");
        let shown = owner.rows("SELECT tenant_column, tenant_type FROM bulkhead.protected_tables").await;
        let unquoted = column[1..column.len() - 1].replace("\"\"", "\"");
        assert_eq!(shown, [[unquoted.as_str(), "text"]]);
        owner.run(&format!("SELECT bulkhead.unprotect({})", literal(&table))).await;
        assert_same(&picture(&owner, &table).await, &bare, name);
    }
    assert_eq!(registered(&owner).await, NO_ROWS);
    owner.run("TABLE canary").await;
}

async fn hostile_names_are_planned(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE canary (id int)").await;
    let app = acting(&db, "app", "all_county").await;
    for name in HOSTILE {
        let Named { table, protect, .. } = named(&owner, name).await;
        let plan = owner.column(&protect.replacen("protect", "protect_plan", 1)).await;
        assert_eq!(plan.len(), 6, "{plan:?}");
        for statement in plan {
            owner.run(&statement).await;
        }
        assert_eq!(owner.column(&protect).await, NOTHING, "{name}");
        assert_eq!(app.column(&format!("SELECT n FROM {table}")).await, ["2"], "{name}");
    }
    assert_eq!(registered(&owner).await.len(), HOSTILE.len());
    owner.run("TABLE canary").await;
}

async fn hostile_names_are_shared(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE canary (id int)").await;
    let app = db.connect("app").await;
    for name in HOSTILE {
        let Named { table, .. } = named(&owner, name).await;
        let bare = picture(&owner, &table).await;
        owner.run(&format!("SELECT bulkhead.share({})", literal(&table))).await;
        assert_eq!(app.column(&format!("SELECT n FROM {table} ORDER BY n")).await, ["1", "2"], "{name}");
        app.refused(&format!("INSERT INTO {table} VALUES (3)")).await.state("42501");
        owner.run(&format!("SELECT bulkhead.unprotect({})", literal(&table))).await;
        assert_same(&picture(&owner, &table).await, &bare, name);
    }
    owner.run("TABLE canary").await;
}

async fn hostile_partitions_are_followed(db: Database) {
    let owner = db.connect("owner").await;
    owner.run("CREATE TABLE canary (id int)").await;
    let app = acting(&db, "app", "h2o").await;
    for (index, name) in HOSTILE.into_iter().enumerate() {
        let (column, schema) = (quoted(name), format!("s{index}"));
        let bare = literal(&column[1..column.len() - 1].replace("\"\"", "\""));
        owner
            .run(&format!(
                "CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO app;
                 CREATE TABLE {schema}.t (n int, {column} text) PARTITION BY RANGE (n);
                 SELECT bulkhead.protect('{schema}.t', {bare});
                 CREATE TABLE {schema}.{column} PARTITION OF {schema}.t FOR VALUES FROM (0) TO (10);
                 GRANT SELECT ON {schema}.{column} TO app;
                 SET bulkhead.tenant_context = 'h2o'; INSERT INTO {schema}.t VALUES (1)"
            ))
            .await;
        assert_eq!(app.column(&format!("SELECT n FROM {schema}.{column}")).await, ["1"], "{name}");
        owner.run("SET bulkhead.tenant_context = ''").await;
        owner.refused(&format!("SELECT n FROM {schema}.{column}")).await.state("42501");
    }
    owner.run("TABLE canary").await;
}

async fn hostile_names_are_shown_quoted_in_errors(db: Database) {
    let owner = db.connect("owner").await;
    let Named { table, protect, .. } = named(&owner, "semi; DROP TABLE canary; --").await;
    let app = db.connect("app").await;
    let unknown = format!("SELECT bulkhead.protect({}, 'no such \" column')", literal(&table));
    let refused = owner.refused(&unknown).await;
    refused.state("22023").message(&format!("table {table} has no column \"no such \" column\""));
    owner.run(&format!("INSERT INTO {table} VALUES (3, NULL)")).await;
    owner.refused(&protect).await.state("55000").message(&format!("{table} has 1 rows without a tenant"));
    owner.run(&format!("DELETE FROM {table} WHERE n = 3; {protect}")).await;
    let naked = app.refused(&format!("SELECT * FROM {table}")).await;
    naked.state("42501").message(&format!("no tenant context for protected table {table}"));
}

/// Operators, functions, casts and catalogs of the caller's own, found before those of pg_catalog.
const IMPOSTORS: &str = "
    CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC;
    CREATE FUNCTION trap.always(uuid, uuid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
    CREATE OPERATOR trap.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = trap.always);
    CREATE FUNCTION trap.never(oid, oid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
    CREATE OPERATOR trap.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trap.never);
    CREATE FUNCTION trap.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'canary' $$;
    CREATE FUNCTION trap.quote_ident(text) RETURNS text LANGUAGE sql AS $$ SELECT 'item' $$;
    CREATE FUNCTION trap.pg_get_expr(pg_node_tree, oid) RETURNS text LANGUAGE sql AS $$ SELECT '(tenant_id = bulkhead.tenant_id())' $$;
    CREATE TABLE trap.pg_policy (polrelid oid, polname name);
    CREATE TABLE trap.pg_inherits (inhrelid oid, inhparent oid);
    CREATE TABLE trap.pg_class (oid oid, relkind text);
    CREATE DOMAIN trap.uuid AS text;
    CREATE DOMAIN trap.name AS text;
    SET search_path = trap, public, pg_catalog";

async fn a_search_path_with_impostors_changes_nothing(db: Database) {
    let owner = super::fixture::bare_orders_past_the_seal(&db).await;
    owner.run(IMPOSTORS).await;
    owner.run("SELECT bulkhead.protect('orders'::pg_catalog.regclass)").await;
    let app = db.connect("app").await;
    app.run(&format!(
        "SET search_path = trap, public, pg_catalog; SET bulkhead.tenant_context = '{}'",
        super::fixture::A
    ))
    .await;
    assert_eq!(super::fixture::seen(&app).await, super::fixture::OF_A);
    owner.run("ALTER POLICY bulkhead_floor ON orders USING (true)").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders'::pg_catalog.regclass)").await.len(), 2);
    assert_eq!(super::fixture::seen(&app).await, super::fixture::OF_A);
    // A policy that compares with the impostor is no floor.
    owner.run("ALTER POLICY bulkhead_floor ON orders USING (tenant_id OPERATOR(trap.=) bulkhead.tenant_id())").await;
    assert_eq!(owner.column("SELECT bulkhead.protect('orders'::pg_catalog.regclass)").await.len(), 2);
    assert_eq!(super::fixture::seen(&app).await, super::fixture::OF_A);
    owner.run("SELECT bulkhead.unprotect('orders'::pg_catalog.regclass)").await;
    assert_eq!(owner.one("SELECT count(*) FROM bulkhead.protected_tables").await, "0");
}

async fn names_beyond_ascii_in_another_encoding_are_refused(db: Database) {
    let latin = format!("{}_latin1", db.name);
    let create = format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    db.cluster.admin("postgres", &create).unwrap();
    let script =
        "CREATE EXTENSION bulkhead; GRANT CREATE ON SCHEMA public TO owner; GRANT USAGE ON SCHEMA public TO app";
    db.cluster.admin(&latin, script).unwrap();
    let there = Database { cluster: db.cluster.clone(), name: latin };
    let owner = there.connect("owner").await;
    owner
        .run(
            "CREATE TABLE \"größe\" (n int, tenant_id text); CREATE TABLE shops (n int, \"händler\" text);
             CREATE TABLE jobs (n int, tenant_id text, \"größe\" int); CREATE POLICY \"größe\" ON jobs USING (tenant_id <> 'ö');
             INSERT INTO jobs VALUES (1, 'müller'), (2, 'meier'), (3, 'm?ller'); GRANT ALL ON jobs TO app",
        )
        .await;
    for call in ["protect('\"größe\"')", "share('\"größe\"')", "protect('shops', 'händler')"] {
        let refused = owner.refused(&format!("SELECT bulkhead.{call}")).await;
        refused.state("22023").message_contains("not ASCII").hint_contains("UTF8");
    }
    // Such names elsewhere in the table, and such tenants, are no hindrance.
    owner
        .run("SELECT bulkhead.protect('jobs'); ALTER TABLE jobs ADD \"länge\" int; CREATE TABLE \"länge\" (id int)")
        .await;
    let app = there.connect("app").await;
    app.refused("TABLE jobs").await.state("42501").message("no tenant context for protected table public.jobs");
    app.run("SET bulkhead.tenant_context = 'müller'").await;
    assert_eq!(app.column("SELECT n FROM jobs").await, ["1"]);
    app.refused("INSERT INTO jobs VALUES (4, 'meier')").await.state("42501");
    app.run("SELECT * FROM bulkhead.status()").await;
    drop((owner, app));
    there.drop().unwrap();
}
