//! What reaches a protected table from elsewhere: temporary tables, the server's own connections to itself, pg_cron; and what chooses its
//! tenant while it runs.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{OF_A, ROLES, acting, orders, seen};
use super::{A, B};
use crate::harness::Skip;

pub fn tests() -> Vec<Trial> {
    crate::tests![
        a_temporary_copy_holds_one_tenants_rows,
        a_temporary_table_that_cascades_fires_filtered_triggers,
        a_rule_inside_a_cascade_is_filtered,
        what_protect_sets_off_is_filtered,
        a_connection_of_the_server_to_itself_is_naked,
        a_pg_cron_job_is_naked => 240,
        a_statement_cannot_choose_its_tenant_while_it_runs,
        a_planner_cannot_choose_the_tenant,
    ]
}

/// It keeps them for whoever uses the connection next: docs/context.md says so, and what ends it.
async fn a_temporary_copy_holds_one_tenants_rows(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        client.run("CREATE TEMP TABLE copy AS SELECT * FROM orders").await;
        assert_eq!(client.column("SELECT id FROM copy ORDER BY id").await, OF_A, "{role}");
        // Nor does it bring a row back into the table for the next tenant.
        client.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
        client.refused("INSERT INTO orders SELECT id + 100, tenant_id, item FROM copy").await.state("42501");
        client.run("DISCARD TEMP").await;
        client.refused("TABLE copy").await.state("42P01");
    }
}

/// Row level security's force is suspended inside a cascade, and the owner of a temporary table may be anybody.
async fn a_temporary_table_that_cascades_fires_filtered_triggers(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        client
            .run(
                "CREATE TEMP TABLE parent (id int PRIMARY KEY);
                 CREATE TEMP TABLE child (id int REFERENCES parent ON DELETE CASCADE);
                 CREATE TEMP TABLE told (what text);
                 CREATE FUNCTION pg_temp.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   INSERT INTO told SELECT id FROM public.orders;
                   UPDATE public.orders SET item = TG_WHEN;
                   RETURN OLD; END $$;
                 CREATE TRIGGER before BEFORE DELETE ON child FOR EACH ROW EXECUTE FUNCTION pg_temp.tell();
                 CREATE TRIGGER after AFTER DELETE ON child FOR EACH ROW EXECUTE FUNCTION pg_temp.tell();
                 INSERT INTO parent VALUES (1);
                 INSERT INTO child VALUES (1);
                 DELETE FROM parent",
            )
            .await;
        let told = "SELECT what, count(*) FROM told GROUP BY 1 ORDER BY 1";
        assert_eq!(client.rows(told).await, OF_A.map(|id| [id, "2"]), "{role}");
        let touched = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders WHERE item IN ('BEFORE', 'AFTER')";
        assert_eq!(db.admin(touched).unwrap(), "1 2 3", "{role}");
    }
}

/// A rule adds statements to those of a foreign key's action, or a condition; and what they call runs at every stage of them.
async fn a_rule_inside_a_cascade_is_filtered(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        client
            .run(
                "CREATE TEMP TABLE parent (id int PRIMARY KEY);
                 CREATE TEMP TABLE child (id int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
                 CREATE TEMP TABLE guarded (id int REFERENCES parent ON DELETE CASCADE);
                 CREATE TEMP TABLE told (what text);
                 CREATE TEMP TABLE parts (id int) PARTITION BY LIST (id);
                 CREATE TEMP TABLE part PARTITION OF parts FOR VALUES IN (1);
                 INSERT INTO parts VALUES (1);
                 CREATE FUNCTION pg_temp.tell(stage text) RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN
                   PERFORM pg_temp.note(stage || (SELECT array_agg(id ORDER BY id) FROM public.orders)::text);
                   RETURN 1; END $$;
                 CREATE FUNCTION pg_temp.note(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO told VALUES (what)';
                 CREATE FUNCTION pg_temp.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   NEW.id = pg_temp.tell('finish'); RETURN NEW; END $$;
                 CREATE TRIGGER fired BEFORE INSERT ON parts FOR EACH ROW EXECUTE FUNCTION pg_temp.fired();
                 CREATE RULE reading AS ON DELETE TO child DO ALSO INSERT INTO told SELECT 'rule' || id FROM public.orders;
                 CREATE RULE pruning AS ON DELETE TO child DO ALSO DELETE FROM parts WHERE id = pg_temp.tell('start');
                 CREATE RULE finishing AS ON DELETE TO child
                   DO ALSO WITH unread AS (INSERT INTO parts VALUES (1) RETURNING id) INSERT INTO told SELECT 'with';
                 CREATE RULE writing AS ON UPDATE TO child DO ALSO UPDATE public.orders SET item = 'ruled' WHERE id IN (3, 4);
                 CREATE RULE replacing AS ON DELETE TO guarded WHERE (SELECT count(*) > 3 FROM public.orders) DO INSTEAD NOTHING;
                 INSERT INTO parent VALUES (1), (2);
                 INSERT INTO child VALUES (1);
                 INSERT INTO guarded VALUES (2);
                 UPDATE parent SET id = 5 WHERE id = 1;
                 DELETE FROM parent",
            )
            .await;
        let told = client.column("SELECT DISTINCT what FROM told ORDER BY 1").await;
        assert_eq!(told, ["finish{1,2,3}", "rule1", "rule2", "rule3", "start{1,2,3}", "with"], "{role}");
        assert_eq!(
            client.one("SELECT count(*) FROM guarded").await,
            "0",
            "{role}: the condition saw other tenants' rows"
        );
        let touched = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders WHERE item = 'ruled'";
        assert_eq!(db.admin(touched).unwrap(), "3", "{role}");

        // Nor without a tenant.
        client
            .run(
                "INSERT INTO parent VALUES (1);
                 INSERT INTO child VALUES (1);
                 RESET bulkhead.tenant_context",
            )
            .await;
        client.refused("DELETE FROM parent").await.state("42501").message_contains("public.orders");
    }
}

/// The planner of what protect() asks, and the index that it builds, call functions of the table's owner.
async fn what_protect_sets_off_is_filtered(db: Database) {
    orders(&db).await;
    db.admin("GRANT CREATE ON SCHEMA public TO app, svc").unwrap();
    for role in ROLES {
        let client = acting(&db, role).await;
        client
            .run(&format!(
                "CREATE FUNCTION spy_{role}() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
                   RAISE WARNING '%', (SELECT array_agg(id ORDER BY id) FROM public.orders);
                   RETURN true; END $$;
                 CREATE TABLE own_{role} (id int, tenant_id text);
                 CREATE INDEX ON own_{role} (id) WHERE spy_{role}();
                 SELECT bulkhead.protect('own_{role}')"
            ))
            .await;
        let mut heard = client.notices();
        heard.sort();
        heard.dedup();
        assert_eq!(heard, ["WARNING: {1,2,3}"], "{role}");
        // Nor without a tenant, also when there is something left to do.
        client
            .run(&format!("ALTER TABLE own_{role} ALTER tenant_id DROP NOT NULL; RESET bulkhead.tenant_context"))
            .await;
        client
            .refused(&format!("SELECT bulkhead.protect('own_{role}')"))
            .await
            .state("42501")
            .message_contains("public.orders");
    }
}

async fn a_connection_of_the_server_to_itself_is_naked(db: Database) {
    orders(&db).await;
    let config = db.config("postgres");
    let host = db.cluster.socket_dir().display().to_string();
    let port = config.get_ports()[0].to_string();
    db.admin(&format!(
        "CREATE EXTENSION dblink;
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{}');
         CREATE USER MAPPING FOR postgres SERVER itself OPTIONS (user 'postgres');
         CREATE FOREIGN TABLE far (id int, tenant_id uuid, item text) SERVER itself OPTIONS (table_name 'orders')",
        db.name
    ))
    .unwrap();
    let superuser = acting(&db, "postgres").await;
    let connection = format!("host={host} port={port} dbname={} user=", db.name);
    for role in ROLES {
        let query = format!("SELECT * FROM dblink('{connection}{role}', 'SELECT id FROM orders') AS t (id int)");
        superuser.refused(&query).await.state("42501").message_contains("no tenant context for protected table");
        // It sees what it sets itself, and nothing of the session that asked.
        let as_b = format!(
            "SELECT id FROM dblink('{connection}{role} options=-cbulkhead.tenant_context={B}', 'SELECT id FROM orders') AS t (id int)"
        );
        assert_eq!(superuser.column(&as_b).await, ["4", "5"], "{role}");
    }
    superuser.refused("SELECT * FROM far").await.state("42501");
    superuser.refused("UPDATE far SET item = 'x'").await.state("42501");
    assert_eq!(seen(&superuser).await, OF_A);
}

async fn a_pg_cron_job_is_naked(db: Database) -> Result<(), Skip> {
    crate::frame::need_pg_cron(&db)?;
    orders(&db).await;
    db.cluster.admin("postgres", "CREATE EXTENSION IF NOT EXISTS pg_cron").unwrap();
    let jobs = [
        ("naked", "postgres", "UPDATE orders SET item = 'cron'".to_owned()),
        ("naked_svc", "svc", "DELETE FROM orders".to_owned()),
        (
            "acting",
            "postgres",
            format!("DO $$ BEGIN PERFORM bulkhead.set_tenant('{A}'); UPDATE orders SET item = 'of A'; END $$"),
        ),
    ];
    for (name, role, command) in &jobs {
        let schedule = format!(
            "SELECT cron.schedule_in_database('{0} {name}', '* * * * *', $c${command}$c$, '{0}', '{role}')",
            db.name
        );
        db.cluster.admin("postgres", &schedule).unwrap();
    }
    let admin = Client::connect(&db.cluster.config("postgres", "postgres")).await.unwrap();
    let details = format!(
        "SELECT DISTINCT ON (j.jobname) split_part(j.jobname, ' ', 2), d.status, d.return_message ~ 'no tenant context for protected table'
           FROM cron.job_run_details d JOIN cron.job j USING (jobid)
          WHERE d.database = '{}' AND d.status IN ('succeeded', 'failed') ORDER BY j.jobname, d.runid",
        db.name
    );
    let started = Instant::now();
    let mut ran = Vec::new();
    while ran.len() < jobs.len() && started.elapsed() < Duration::from_secs(150) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ran = admin.rows(&details).await;
    }
    let unschedule = format!("SELECT cron.unschedule(jobid) FROM cron.job WHERE database = '{}'", db.name);
    admin.run(&unschedule).await;
    assert_eq!(ran, [["acting", "succeeded", "f"], ["naked", "failed", "t"], ["naked_svc", "failed", "t"]]);
    let items = "SELECT string_agg(item, ', ' ORDER BY id) FROM orders";
    assert_eq!(db.admin(items).unwrap(), "of A, of A, of A, item 4, item 5");
    Ok(())
}

const CONTEXT: &str = "bulkhead.tenant_context";

async fn a_statement_cannot_choose_its_tenant_while_it_runs(db: Database) {
    orders(&db).await;
    for role in ROLES {
        let client = acting(&db, role).await;
        for local in ["true", "false"] {
            let switch = format!("set_config('{CONTEXT}', '{B}', {local})");
            for statement in [
                format!("SELECT {switch}, query_to_xml('SELECT * FROM orders', true, true, '')"),
                format!("SELECT {switch} UNION ALL SELECT item FROM orders"),
                format!("WITH s AS MATERIALIZED (SELECT {switch} AS v) SELECT item, v FROM orders, s"),
                format!("SELECT (SELECT count(*) FROM orders), {switch}, (SELECT count(*) FROM orders)"),
                format!("UPDATE orders SET item = {switch}"),
            ] {
                client.refused(&statement).await.state("42501");
                assert_eq!(seen(&client).await, OF_A, "{role}: {statement}");
            }
        }
    }
    let unchanged = "SELECT count(*) FROM orders WHERE item LIKE 'item %'";
    assert_eq!(db.admin(unchanged).unwrap(), "5");
}

async fn a_planner_cannot_choose_the_tenant(db: Database) {
    let owner = orders(&db).await;
    owner
        .run(&format!(
            "CREATE FUNCTION choose() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
               PERFORM set_config('{CONTEXT}', '{B}', false); RETURN true; END $$"
        ))
        .await;
    for role in ROLES {
        for statement in ["SELECT * FROM orders WHERE choose()", "DELETE FROM orders WHERE choose()"] {
            for before in ["", "EXPLAIN ", "EXPLAIN (ANALYZE) "] {
                let naked = db.connect(role).await;
                naked.refused(&format!("{before}{statement}")).await.state("42501");
                naked.refused("TABLE orders").await.state("42501");
                let client = acting(&db, role).await;
                client.refused(&format!("{before}{statement}")).await.state("42501");
                assert_eq!(seen(&client).await, OF_A, "{role}: {before}{statement}");
            }
        }
    }
}
