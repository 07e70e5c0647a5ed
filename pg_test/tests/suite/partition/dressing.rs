//! What a new partition has: owner, rights, policies, storage settings, unique indexes, protection.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::{A, B, complaints, days, events, maintain, managed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        rights_are_the_parents,
        policies_are_the_parents,
        storage_settings_are_the_siblings,
        uniqueness_within_a_partition_is_the_siblings,
        triggers_and_foreign_keys_come_along,
        a_protected_table_gets_protected_partitions,
        a_shared_table_gets_shared_partitions,
        unprotected_they_are_as_if_never_protected,
        a_template_gives_a_key_and_options,
        nothing_more_than_partition_of_would_give,
    ]
}

async fn rights_are_the_parents(db: Database) {
    let owner = managed(&db, 0).await;
    db.admin("CREATE ROLE reader; CREATE ROLE writer").unwrap();
    owner
        .run(
            "REVOKE ALL ON events FROM svc; REVOKE DELETE ON events FROM app; GRANT SELECT ON events TO reader WITH GRANT OPTION;
             GRANT SELECT (id, note), UPDATE (note) ON events TO writer; GRANT TRIGGER ON events TO PUBLIC; REVOKE TRUNCATE ON events FROM owner",
        )
        .await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let differing = "SELECT count(*) FROM pg_class c JOIN pg_class p ON p.relname = 'events' AND p.relnamespace = c.relnamespace WHERE c.relispartition AND c.relkind = 'r'
                     AND (c.relowner, ARRAY(SELECT x::text FROM unnest(c.relacl) x ORDER BY 1))
                         IS DISTINCT FROM (p.relowner, ARRAY(SELECT x::text FROM unnest(p.relacl) x ORDER BY 1))";
    assert_eq!(owner.one(differing).await, "0");
    let columns = "SELECT string_agg(attname || attacl::text, ' ' ORDER BY attname) FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = ";
    let of_parent = owner.one(&format!("{columns} 'events'::regclass")).await;
    assert!(of_parent.contains("writer=rw/owner"), "{of_parent}");
    for leaf in days(&owner, "events", 0, 3).await {
        assert_eq!(owner.one(&format!("{columns} '{leaf}'::regclass")).await, of_parent);
    }
    drop(owner);
    db.admin("DROP OWNED BY reader, writer; DROP ROLE reader, writer").unwrap();
}

async fn policies_are_the_parents(db: Database) {
    let owner = db.connect("owner").await;
    // The dropped column makes the parent's columns count differently from a partition's.
    owner
        .run(&format!(
            "CREATE TABLE members (tenant uuid, who name);
             INSERT INTO members VALUES ('{A}', 'app');
             CREATE TABLE events (gone int, tenant_id uuid, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
             ALTER TABLE events DROP gone;
             ALTER TABLE events ENABLE ROW LEVEL SECURITY; ALTER TABLE events FORCE ROW LEVEL SECURITY;
             CREATE POLICY mine ON events FOR SELECT TO app, svc USING (EXISTS (SELECT FROM members m WHERE m.tenant = events.tenant_id AND m.who = current_user));
             CREATE POLICY put ON events AS PERMISSIVE FOR INSERT TO app WITH CHECK (note <> 'bad');
             CREATE POLICY never ON events AS RESTRICTIVE USING (note IS DISTINCT FROM 'hidden') WITH CHECK (true);
             SELECT bulkhead.manage_partitions('events', '1 day', '3 days', 1)"
        ))
        .await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let app = db.connect("app").await;
    app.run(&format!("INSERT INTO events VALUES ('{A}', now(), 'good'), ('{B}', now(), 'foreign')")).await;
    let leaf = &days(&owner, "events", 0, 0).await[0];
    for table in ["events", leaf] {
        assert_eq!(app.column(&format!("SELECT note FROM {table}")).await, ["good"]);
        app.refused(&format!("INSERT INTO {table} VALUES ('{A}', now(), 'bad')")).await.state("42501");
        assert_eq!(owner.one(&format!("SELECT count(*) FROM {table}")).await, "0", "forced");
    }
    let policies = "SELECT polname, polcmd, polpermissive, polroles::text FROM pg_policy WHERE polrelid = '";
    let of_parent = owner.rows(&format!("{policies}events'::regclass ORDER BY 1")).await;
    assert_eq!(owner.rows(&format!("{policies}{leaf}'::regclass ORDER BY 1")).await, of_parent);
}

async fn storage_settings_are_the_siblings(db: Database) {
    let owner = managed(&db, 2).await;
    owner
        .run(
            "ALTER TABLE events_1 SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, toast.autovacuum_enabled = false);
             ALTER TABLE events_1 ALTER note SET STATISTICS 500, ALTER id SET (n_distinct = -0.5), ALTER note SET STORAGE EXTERNAL;
             ALTER TABLE events ALTER note SET STORAGE EXTERNAL; ALTER TABLE events_1 REPLICA IDENTITY FULL; ALTER TABLE events_1 SET UNLOGGED",
        )
        .await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let leaf = &days(&owner, "events", 2, 2).await[0];
    let facts = |table: &str| {
        format!(
            "SELECT c.reloptions, t.reloptions, c.relreplident, c.relpersistence,
                    (SELECT string_agg(concat(attname, attstattarget, attstorage, (SELECT o FROM unnest(attoptions) o WHERE starts_with(o, 'n_distinct'))), ' ' ORDER BY attname) FROM pg_attribute
                      WHERE attrelid = c.oid AND attnum > 0)
               FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = '{table}'::regclass"
        )
    };
    assert_eq!(owner.rows(&facts(leaf)).await, owner.rows(&facts("events_1")).await);
}

async fn uniqueness_within_a_partition_is_the_siblings(db: Database) {
    let owner = managed(&db, 1).await;
    owner
        .run(
            "CREATE UNIQUE INDEX \"odd INDEX ON x USING\" ON events_1 USING btree (id DESC, lower(note)) INCLUDE (at) WHERE id > 0;
             ALTER TABLE events_1 ADD CONSTRAINT only_here UNIQUE (id, tenant_id) DEFERRABLE; CREATE INDEX ON events_1 (note)",
        )
        .await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let leaf = &days(&owner, "events", 3, 3).await[0];
    let unique = |table: &str| {
        format!(
            "SELECT regexp_replace(pg_get_indexdef(indexrelid), '.* USING btree', '') FROM pg_index
              WHERE indrelid = '{table}'::regclass AND indisunique ORDER BY 1"
        )
    };
    let of_sibling = owner.column(&unique("events_1")).await;
    assert_eq!(of_sibling.len(), 2);
    assert_eq!(owner.column(&unique(leaf)).await, of_sibling);
    let deferrable =
        format!("SELECT condeferrable FROM pg_constraint WHERE conrelid = '{leaf}'::regclass AND contype = 'u'");
    assert_eq!(owner.one(&deferrable).await, "t");
    // The parent's index came once.
    assert_eq!(owner.one(&format!("SELECT count(*) FROM pg_index WHERE indrelid = '{leaf}'::regclass")).await, "3");
}

async fn triggers_and_foreign_keys_come_along(db: Database) {
    let owner = managed(&db, 0).await;
    owner
        .run(
            "CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds VALUES ('x');
             ALTER TABLE events ADD FOREIGN KEY (note) REFERENCES kinds; ALTER TABLE events ADD CHECK (id > 0);
             CREATE FUNCTION louder() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END';
             CREATE TRIGGER louder BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION louder();
             CREATE STATISTICS spread ON id, note FROM events",
        )
        .await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    owner.run("INSERT INTO events VALUES (1, NULL, now(), 'x')").await;
    assert_eq!(owner.one("SELECT id FROM events").await, "1001");
    let leaf = &days(&owner, "events", 0, 0).await[0];
    owner.refused(&format!("INSERT INTO {leaf} VALUES (1, NULL, now(), 'y')")).await.state("23503");
    owner.refused("INSERT INTO events VALUES (-5000, NULL, now(), 'x')").await.state("23514");
    owner.refused("DELETE FROM kinds").await.state("23503");
    let loose = format!(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = '{leaf}'::regclass AND conname = 'bulkhead_range'"
    );
    assert_eq!(owner.one(&loose).await, "0");
}

async fn a_protected_table_gets_protected_partitions(db: Database) {
    let owner = managed(&db, 1).await;
    owner.run("SELECT bulkhead.protect('events')").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let app = db.connect("app").await;
    app.run(&format!("SET bulkhead.tenant_context = '{A}'; INSERT INTO events (id, at) VALUES (7, now())")).await;
    let leaf = &days(&owner, "events", 0, 0).await[0];
    let registered = "SELECT count(*) FROM bulkhead.protected_tables WHERE sealed AND tenant_column = 'tenant_id'";
    assert_eq!(owner.one(registered).await, "6");
    for role in ["app", "owner", "svc", "postgres"] {
        let client = db.connect(role).await;
        let naked = client.refused(&format!("SELECT * FROM {leaf}")).await;
        naked.state("42501").message(&format!("no tenant context for protected table public.{leaf}"));
        client.run(&format!("SET bulkhead.tenant_context = '{B}'")).await;
        assert_eq!(client.one(&format!("SELECT count(*) FROM {leaf}")).await, "0", "{role}");
        client.run(&format!("SET bulkhead.tenant_context = '{A}'")).await;
        assert_eq!(client.one(&format!("SELECT id FROM {leaf}")).await, "7", "{role}");
        if role != "postgres" {
            client.refused(&format!("INSERT INTO {leaf} VALUES (8, '{B}', now())")).await.state("42501");
        }
    }
    assert_eq!(owner.column("SELECT bulkhead.protect('events')").await, [""; 0], "nothing was left to do");
}

async fn a_shared_table_gets_shared_partitions(db: Database) {
    let owner = managed(&db, 0).await;
    owner.run("SELECT bulkhead.share('events')").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    assert_eq!(owner.one("SELECT count(*) FROM bulkhead.protected_tables WHERE shared").await, "5");
    let leaf = &days(&owner, "events", 0, 0).await[0];
    let app = db.connect("app").await;
    app.run(&format!("SELECT * FROM {leaf}")).await;
    app.refused(&format!("INSERT INTO {leaf} VALUES (1, NULL, now())")).await.state("42501");
}

/// Partitions that came while the table was protected, beside those of a table that never was.
async fn unprotected_they_are_as_if_never_protected(db: Database) {
    let owner = db.past_the_seal("owner").await;
    for (name, own) in [
        ("bare", ""),
        ("enabled", "ALTER TABLE # ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON # USING (note > '')"),
        ("forced", "ALTER TABLE # FORCE ROW LEVEL SECURITY"),
        ("strict", "ALTER TABLE # ALTER tenant_id SET NOT NULL, ALTER tenant_id SET DEFAULT gen_random_uuid()"),
        ("acting", "ALTER TABLE # ALTER tenant_id SET DEFAULT bulkhead.tenant_id()"),
    ] {
        for (table, call) in [("never", ""), ("protected", "protect"), ("shared", "share")] {
            let table = format!("{name}_{table}");
            owner
                .run(&format!(
                    "CREATE TABLE {table} (id bigint NOT NULL, tenant_id uuid, at timestamptz NOT NULL, note text) PARTITION BY RANGE (at);
                     {}; SELECT bulkhead.manage_partitions('{table}', '1 day', '3 days', 1)",
                    own.replace('#', &table)
                ))
                .await;
            if !call.is_empty() {
                owner.run(&format!("SELECT bulkhead.{call}('{table}')")).await;
            }
        }
    }
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let bare = "SELECT relname FROM pg_class WHERE relname ~ '_(protected|shared)' AND relkind IN ('r', 'p') AND NOT relrowsecurity";
    assert_eq!(owner.column(bare).await, [""; 0]);
    db.admin("SELECT bulkhead.unprotect_all()").unwrap();
    let facts = |table: &str| {
        format!(
            "SELECT regexp_replace(c.relname, '_[a-z]+', ''), c.relrowsecurity, c.relforcerowsecurity, a.attnotnull,
                    (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = c.oid),
                    ARRAY(SELECT p.polname FROM pg_policy p WHERE p.polrelid = c.oid)
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
              WHERE c.relname ~ '_{table}' AND c.relkind IN ('r', 'p') ORDER BY 1"
        )
    };
    let never = owner.rows(&facts("never")).await;
    assert_eq!(never.len(), 5 * 3, "{never:#?}");
    for table in ["protected", "shared"] {
        assert_eq!(owner.rows(&facts(table)).await, never, "{table}");
    }
}

async fn a_template_gives_a_key_and_options(db: Database) {
    let owner = managed(&db, 0).await;
    db.admin(
        "UPDATE bulkhead.managed_partition SET leaf_key = ARRAY['id', 'odd \" name'], leaf_options = '{fillfactor=60}'
          WHERE parent = 'events'::regclass",
    )
    .unwrap();
    owner.run("ALTER TABLE events ADD \"odd \"\" name\" int NOT NULL DEFAULT 0").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    for leaf in days(&owner, "events", 0, 3).await {
        let facts = format!(
            "SELECT pg_get_constraintdef(k.oid), c.reloptions FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
              WHERE contype = 'p' AND conrelid = '{leaf}'::regclass"
        );
        assert_eq!(owner.rows(&facts).await, [["PRIMARY KEY (id, \"odd \"\" name\")", "{fillfactor=60}"]]);
    }
}

/// Everything of the catalogs about a partition is as in one that PARTITION OF made, but what that forgets.
async fn nothing_more_than_partition_of_would_give(db: Database) {
    let owner = events(&db).await;
    owner
        .run(
            "ALTER TABLE events ADD CHECK (id > 0), ALTER note SET DEFAULT 'n', ADD PRIMARY KEY (id, at), ADD up bigint GENERATED ALWAYS AS (id * 2) STORED;
             ALTER TABLE events ADD n bigint GENERATED BY DEFAULT AS IDENTITY;
             CREATE TABLE theirs PARTITION OF events FOR VALUES FROM ('2001-01-01') TO ('2001-01-02');
             SELECT bulkhead.manage_partitions('events', '1 day', '100 years', 1)",
        )
        .await;
    db.admin("UPDATE bulkhead.managed_partition SET retain = '1 day' WHERE parent = 'events'::regclass").unwrap();
    owner.run("SELECT bulkhead.hold_partition('theirs', 'to compare')").await;
    maintain(&db).await;
    assert_eq!(complaints(&db).await, [""; 0]);
    let leaf = &days(&owner, "events", 0, 0).await[0];
    let facts = |table: &str| {
        format!(
            "SELECT concat('column ', attname, atttypid::regtype, attnotnull, atthasdef, attidentity, attgenerated, attislocal, attinhcount)
               FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0
             UNION ALL SELECT concat('constraint ', contype, pg_get_constraintdef(oid), conislocal, coninhcount, conparentid <> 0) FROM pg_constraint
              WHERE conrelid = '{table}'::regclass
             UNION ALL SELECT concat('index ', indisprimary, indkey, indisvalid) FROM pg_index WHERE indrelid = '{table}'::regclass ORDER BY 1"
        )
    };
    let (ours, theirs) = (owner.column(&facts(leaf)).await, owner.column(&facts("theirs")).await);
    assert_eq!(ours, theirs);
}
