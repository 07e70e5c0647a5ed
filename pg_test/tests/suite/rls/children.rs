//! Partitions and inheritance children: protected with their parent, whenever they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Trial;
use pg_test::{Client, Database};

use super::fixture::{A, B, NOTHING, acting, assert_same, picture, registered};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        existing_partitions_are_protected,
        a_partition_created_later_is_protected,
        a_partition_attached_later_is_protected,
        a_partition_attached_with_policies_of_its_own_is_protected,
        a_partition_protected_by_another_column_takes_on_the_parents,
        a_tree_attached_later_is_protected_to_its_leaves,
        a_default_partition_is_protected,
        existing_inheritance_children_are_protected,
        an_inheritance_child_created_later_is_protected,
        an_inheritance_child_joined_later_is_protected,
        a_tampered_partition_is_repaired_through_its_parent,
        a_detached_partition_stays_protected,
        a_disinherited_child_stays_protected,
        a_detached_partition_comes_back,
        an_attach_by_a_member_of_the_owning_role_protects,
        an_attach_that_is_rolled_back_leaves_nothing,
        a_partition_created_in_replica_mode_is_protected,
        partitions_created_by_a_function_are_protected,
        a_row_that_changes_its_partition_keeps_its_tenant,
        protect_of_a_partition_is_refused,
        partitions_that_go_disturb_nobody,
    ]
}

/// `parent(id, tenant_id)` partitioned by id, protected, with `old` for ids below 100. Rows 1 and 2 are A's, 3 is B's.
async fn parent(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!(
            "CREATE TABLE parent (id int, tenant_id uuid) PARTITION BY RANGE (id);
             CREATE TABLE old PARTITION OF parent FOR VALUES FROM (0) TO (100);
             INSERT INTO parent VALUES (1, '{A}'), (2, '{A}'), (3, '{B}');
             SELECT bulkhead.protect('parent')"
        ))
        .await;
    owner
}

/// A table like a partition, with row 101 of A and 102 of B, that nobody has protected.
async fn loose(owner: &Client, name: &str) {
    let rows = format!("INSERT INTO {name} VALUES (101, '{A}'), (102, '{B}')");
    owner.run(&format!("CREATE TABLE {name} (id int, tenant_id uuid NOT NULL); {rows}")).await;
}

const ATTACH: &str = "ALTER TABLE parent ATTACH PARTITION new FOR VALUES FROM (100) TO (200)";

/// By itself, the child shows, takes and refuses what its parent does.
async fn assert_like_its_parent(db: &Database, child: &str, of_a: &[&str]) {
    for role in ["app", "owner"] {
        let naked = db.connect(role).await.refused(&format!("SELECT * FROM {child}")).await;
        naked.state("42501").message(&format!("no tenant context for protected table public.{child}"));
        let client = acting(db, role, A).await;
        assert_eq!(client.column(&format!("SELECT id FROM {child} ORDER BY id")).await, of_a, "{role} {child}");
        let foreign = client.column(&format!("UPDATE {child} SET id = id WHERE tenant_id = '{B}' RETURNING id")).await;
        assert_eq!(foreign, NOTHING, "{role} {child}");
        let alien = client.refused(&format!("INSERT INTO {child} (id, tenant_id) VALUES (99999, '{B}')")).await;
        // Outside the partition's bounds is noticed first.
        assert!(["42501", "23514"].contains(&alien.sqlstate.as_str()), "{alien:?}");
        let given_away = format!("UPDATE {child} SET tenant_id = '{B}'");
        match of_a {
            [] => client.run(&given_away).await,
            _ => drop(client.refused(&given_away).await.state("42501").message_contains("violates row-level security")),
        }
    }
}

async fn existing_partitions_are_protected(db: Database) {
    let owner = parent(&db).await;
    assert_like_its_parent(&db, "parent", &["1", "2"]).await;
    assert_like_its_parent(&db, "old", &["1", "2"]).await;
    assert_eq!(registered(&owner).await, [["old", "tenant_id", "uuid", "f"], ["parent", "tenant_id", "uuid", "f"]]);
    // The parent stands for it: a query on the parent is refused in the parent's name.
    let naked = db.connect("app").await.refused("SELECT * FROM parent WHERE id = 1").await;
    naked.message("no tenant context for protected table public.parent");
}

async fn a_partition_created_later_is_protected(db: Database) {
    let owner = parent(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE parent").await.state("42501");
    owner.run("CREATE TABLE new PARTITION OF parent FOR VALUES FROM (100) TO (200)").await;
    app.refused("TABLE new").await.state("42501").message("no tenant context for protected table public.new");
    for tenant in [A, B] {
        acting(&db, "app", tenant).await.run("INSERT INTO parent VALUES (150), (151)").await;
    }
    assert_like_its_parent(&db, "new", &["150", "151"]).await;
    assert_eq!(owner.column("SELECT bulkhead.protect('parent')").await, NOTHING);
    let default = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'new'::regclass";
    assert_eq!(owner.column(default).await, ["bulkhead.tenant_id()"]);
}

async fn a_partition_attached_later_is_protected(db: Database) {
    let owner = parent(&db).await;
    let app = db.connect("app").await;
    app.refused("TABLE parent").await.state("42501");
    owner.run("CREATE TABLE bare (id int, tenant_id uuid)").await;
    let attach = ATTACH.replace("new", "bare");
    let refused = owner.refused(&attach).await.state("42804");
    // 18 names the child as well.
    refused.message_contains("column \"tenant_id\" in child table ").message_contains(" must be marked NOT NULL");
    loose(&owner, "new").await;
    owner.run(ATTACH).await;
    app.refused("TABLE new").await.state("42501").message("no tenant context for protected table public.new");
    assert_like_its_parent(&db, "new", &["101"]).await;
    assert_like_its_parent(&db, "parent", &["1", "2", "101"]).await;
    assert_eq!(owner.column("SELECT bulkhead.protect('parent')").await, NOTHING);
}

async fn a_partition_attached_with_policies_of_its_own_is_protected(db: Database) {
    let owner = parent(&db).await;
    loose(&owner, "new").await;
    owner
        .run(
            "ALTER TABLE new ENABLE ROW LEVEL SECURITY; CREATE POLICY everything ON new USING (true) WITH CHECK (true)",
        )
        .await;
    owner.run(ATTACH).await;
    assert_like_its_parent(&db, "new", &["101"]).await;
}

async fn a_partition_protected_by_another_column_takes_on_the_parents(db: Database) {
    let owner = parent(&db).await;
    owner.run("ALTER TABLE parent ADD seller uuid").await;
    owner
        .run(&format!(
            "CREATE TABLE new (id int, tenant_id uuid NOT NULL, seller uuid);
             INSERT INTO new VALUES (101, '{A}', '{B}'), (102, '{B}', '{A}');
             SELECT bulkhead.protect('new', 'seller')"
        ))
        .await;
    owner.run(ATTACH).await;
    assert_like_its_parent(&db, "new", &["101"]).await;
    assert_like_its_parent(&db, "parent", &["1", "2", "101"]).await;
}

async fn a_tree_attached_later_is_protected_to_its_leaves(db: Database) {
    let owner = parent(&db).await;
    owner
        .run(&format!(
            "CREATE TABLE new (id int, tenant_id uuid NOT NULL) PARTITION BY HASH (id);
             CREATE TABLE leaf PARTITION OF new FOR VALUES WITH (MODULUS 1, REMAINDER 0) PARTITION BY LIST (id);
             CREATE TABLE twig PARTITION OF leaf DEFAULT;
             INSERT INTO new VALUES (101, '{A}'), (102, '{B}')"
        ))
        .await;
    owner.run(ATTACH).await;
    for table in ["new", "leaf", "twig"] {
        assert_like_its_parent(&db, table, &["101"]).await;
    }
    // One more, three levels down.
    owner.run("CREATE TABLE late PARTITION OF leaf FOR VALUES IN (111)").await;
    acting(&db, "app", A).await.run("INSERT INTO parent VALUES (111)").await;
    assert_like_its_parent(&db, "late", &["111"]).await;
    assert_eq!(registered(&owner).await.len(), 6);
}

async fn a_default_partition_is_protected(db: Database) {
    let owner = parent(&db).await;
    owner.run("CREATE TABLE rest PARTITION OF parent DEFAULT").await;
    acting(&db, "app", A).await.run("INSERT INTO parent VALUES (5000)").await;
    assert_like_its_parent(&db, "rest", &["5000"]).await;
}

/// `base(id, tenant_id)` with row 1 of A and 2 of B, not protected.
async fn base(db: &Database) -> Client {
    let owner = db.connect("owner").await;
    owner
        .run(&format!("CREATE TABLE base (id int, tenant_id uuid); INSERT INTO base VALUES (1, '{A}'), (2, '{B}')"))
        .await;
    owner
}

async fn existing_inheritance_children_are_protected(db: Database) {
    let owner = base(&db).await;
    owner
        .run(&format!(
            "CREATE TABLE child () INHERITS (base); INSERT INTO child VALUES (3, '{A}'), (4, '{B}');
             CREATE TABLE grandchild () INHERITS (child); INSERT INTO grandchild VALUES (5, '{A}'), (6, '{B}');
             SELECT bulkhead.protect('base')"
        ))
        .await;
    for (table, of_a) in [("base", &["1", "3", "5"][..]), ("child", &["3", "5"]), ("grandchild", &["5"])] {
        assert_like_its_parent(&db, table, of_a).await;
    }
    let app = acting(&db, "app", B).await;
    assert_eq!(app.column("SELECT id FROM ONLY base").await, ["2"]);
}

async fn an_inheritance_child_created_later_is_protected(db: Database) {
    let owner = base(&db).await;
    owner.run("SELECT bulkhead.protect('base'); CREATE TABLE child (note text) INHERITS (base)").await;
    for tenant in [A, B] {
        acting(&db, "app", tenant).await.run("INSERT INTO child VALUES (7)").await;
    }
    assert_like_its_parent(&db, "child", &["7"]).await;
    assert_like_its_parent(&db, "base", &["1", "7"]).await;
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'child'::regclass";
    assert_eq!(owner.one(indexes).await, "1", "an inheritance child does not get its parent's index by itself");
}

async fn an_inheritance_child_joined_later_is_protected(db: Database) {
    let owner = base(&db).await;
    owner.run("SELECT bulkhead.protect('base')").await;
    loose(&owner, "child").await;
    owner.run("ALTER TABLE child INHERIT base").await;
    assert_like_its_parent(&db, "child", &["101"]).await;
    assert_eq!(owner.column("SELECT bulkhead.protect('base')").await, NOTHING);
}

async fn a_tampered_partition_is_repaired_through_its_parent(db: Database) {
    let owner = parent(&db).await;
    let whole = picture(&owner, "parent").await;
    for tampering in [
        "ALTER POLICY bulkhead_floor ON old USING (true)",
        "DROP POLICY bulkhead_floor ON old",
        "ALTER TABLE old NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE old DISABLE ROW LEVEL SECURITY",
    ] {
        owner.run(tampering).await;
        assert_ne!(picture(&owner, "parent").await, whole, "{tampering}");
        assert!(!owner.column("SELECT bulkhead.protect('parent')").await.is_empty(), "{tampering}");
        assert_same(&picture(&owner, "parent").await, &whole, tampering);
    }
}

async fn a_detached_partition_stays_protected(db: Database) {
    let owner = parent(&db).await;
    owner.run("CREATE TABLE new PARTITION OF parent FOR VALUES FROM (100) TO (200)").await;
    acting(&db, "app", A).await.run("INSERT INTO parent VALUES (150)").await;
    owner.run("ALTER TABLE parent DETACH PARTITION old").await;
    owner.run("ALTER TABLE parent DETACH PARTITION new CONCURRENTLY").await;
    assert_like_its_parent(&db, "old", &["1", "2"]).await;
    assert_like_its_parent(&db, "new", &["150"]).await;
    assert_eq!(owner.column("SELECT bulkhead.protect('old')").await, NOTHING);
    // Now that it stands alone it is unprotected by itself, and its former parent's state is another matter.
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('old')").await;
    assert_eq!(db.connect("app").await.column("SELECT id FROM old").await.len(), 3);
    assert!(picture(&owner, "old").await.iter().all(|fact| !fact.contains("bulkhead")));
    assert_eq!(registered(&owner).await.len(), 2);
}

async fn a_disinherited_child_stays_protected(db: Database) {
    let owner = base(&db).await;
    owner.run("SELECT bulkhead.protect('base')").await;
    loose(&owner, "child").await;
    owner.run("ALTER TABLE child INHERIT base; ALTER TABLE child NO INHERIT base").await;
    assert_like_its_parent(&db, "child", &["101"]).await;
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('base')").await;
    assert_like_its_parent(&db, "child", &["101"]).await;
    owner.run("SELECT bulkhead.unprotect('child')").await;
    assert_eq!(db.connect("app").await.column("SELECT id FROM child").await.len(), 2);
}

async fn a_detached_partition_comes_back(db: Database) {
    let owner = parent(&db).await;
    let whole = picture(&owner, "parent").await;
    owner.run("ALTER TABLE parent DETACH PARTITION old; ALTER TABLE parent ATTACH PARTITION old FOR VALUES FROM (0) TO (100)").await;
    assert_same(&picture(&owner, "parent").await, &whole, "parent");
    assert_like_its_parent(&db, "old", &["1", "2"]).await;
    let owner = db.past_the_seal("owner").await;
    owner.run("SELECT bulkhead.unprotect('parent')").await;
    assert!(picture(&owner, "parent").await.iter().all(|fact| !fact.contains("bulkhead")));
}

async fn an_attach_by_a_member_of_the_owning_role_protects(db: Database) {
    let owner = parent(&db).await;
    loose(&owner, "new").await;
    let member = format!("attaches_{}", db.name);
    db.admin(&format!("CREATE ROLE {member} LOGIN IN ROLE owner")).unwrap();
    db.connect(&member).await.run(ATTACH).await;
    assert_like_its_parent(&db, "new", &["101"]).await;
    db.admin(&format!("DROP ROLE {member}")).unwrap();
}

async fn an_attach_that_is_rolled_back_leaves_nothing(db: Database) {
    let owner = parent(&db).await;
    loose(&owner, "new").await;
    let before = picture(&owner, "new").await;
    let app = db.connect("app").await;
    for rollback in ["ROLLBACK", "ROLLBACK TO s; COMMIT"] {
        owner.run(&format!("BEGIN; SAVEPOINT s; {ATTACH}")).await;
        owner.refused("TABLE new").await.state("42501");
        owner.run("ROLLBACK TO s").await;
        owner.run(rollback).await;
        assert_same(&picture(&owner, "new").await, &before, rollback);
        assert_eq!(registered(&owner).await.len(), 2);
        for client in [&owner, &app] {
            assert_eq!(client.column("SELECT id FROM new ORDER BY id").await, ["101", "102"]);
            client.refused("TABLE parent").await.state("42501");
        }
    }
}

async fn a_partition_created_in_replica_mode_is_protected(db: Database) {
    parent(&db).await;
    let admin = db.connect("postgres").await;
    admin
        .run(
            "SET session_replication_role = replica; SET ROLE owner;
             CREATE TABLE new PARTITION OF parent FOR VALUES FROM (100) TO (200)",
        )
        .await;
    assert_like_its_parent(&db, "new", &[]).await;
}

async fn partitions_created_by_a_function_are_protected(db: Database) {
    let owner = parent(&db).await;
    owner
        .run(
            "CREATE PROCEDURE extend() LANGUAGE plpgsql AS $$ BEGIN
               FOR i IN 1..3 LOOP
                 EXECUTE format('CREATE TABLE p%s PARTITION OF parent FOR VALUES FROM (%s) TO (%s)', i, i * 100, i * 100 + 100);
                 COMMIT;
               END LOOP; END $$;",
        )
        .await;
    owner.run("CALL extend()").await;
    for table in ["p1", "p2", "p3"] {
        assert_like_its_parent(&db, table, &[]).await;
    }
}

async fn a_row_that_changes_its_partition_keeps_its_tenant(db: Database) {
    let owner = parent(&db).await;
    owner.run("CREATE TABLE new PARTITION OF parent FOR VALUES FROM (100) TO (200)").await;
    let app = acting(&db, "app", A).await;
    assert_eq!(app.column("UPDATE parent SET id = id + 100 RETURNING id").await, ["101", "102"]);
    app.refused(&format!("UPDATE parent SET id = id - 100, tenant_id = '{B}'")).await.state("42501");
    assert_eq!(app.column("SELECT tableoid::regclass FROM parent").await, ["new", "new"]);
}

async fn protect_of_a_partition_is_refused(db: Database) {
    let owner = db.connect("owner").await;
    owner
        .run("CREATE TABLE p (tenant_id uuid) PARTITION BY LIST (tenant_id); CREATE TABLE \"P 1\" PARTITION OF p DEFAULT")
        .await;
    for call in ["protect", "protect_plan", "share"] {
        owner
            .refused(&format!("SELECT bulkhead.{call}('\"P 1\"')"))
            .await
            .state("55000")
            .message("public.\"P 1\" inherits from public.p")
            .detail_contains("without asking the child's policies")
            .hint_contains("Call the function for the parent");
    }
    assert_eq!(registered(&owner).await.len(), 0);
}

/// A session that has just begun learns what is protected, and looks each partition up, while they go.
async fn partitions_that_go_disturb_nobody(db: Database) {
    const COUNT: usize = 500;
    let owner = parent(&db).await;
    let many = format!(
        "SELECT format('CREATE TABLE p%1$s PARTITION OF parent FOR VALUES FROM (%1$s00) TO (%1$s99)', i) FROM generate_series(1, {COUNT}) i"
    );
    owner.run(&format!("DO $$ DECLARE one text; BEGIN FOR one IN {many} LOOP EXECUTE one; END LOOP; END $$")).await;
    let app = acting(&db, "app", A).await;
    let rows = app.column("SELECT id FROM parent ORDER BY id").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (db, is_over) = (db.clone(), Arc::clone(&is_over));
        readers.spawn(async move {
            let mut sessions = 0;
            while !is_over.load(Ordering::Relaxed) {
                acting(&db, "app", A).await.run("SELECT bulkhead.tenant_id()").await;
                sessions += 1;
            }
            sessions
        });
    }
    for number in 1..=COUNT {
        owner.run(&format!("DROP TABLE p{number}")).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let sessions: usize = readers.join_all().await.into_iter().sum();
    assert!(sessions > 100, "{sessions}");
    assert_eq!(app.column("SELECT id FROM parent ORDER BY id").await, rows);
}
