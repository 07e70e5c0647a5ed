//! claims(), user_id(), has_role(), has_permission(): what policies learn from the token.

use libtest_mimic::Trial;
use pg_test::{Client, Database};
use serde_json::{Value, json};

use super::fixture::{A, B, Issuer, SET, issued, now, seen, set, setting, signed};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        they_say_what_the_token_says,
        without_a_token_they_grant_nothing,
        roles_of_one_workspace_are_not_those_of_another,
        names_of_any_kind_are_harmless,
        answers_follow_a_switch_inside_a_query,
        arguments_of_any_size_are_compared_whole,
        policies_use_them,
        workers_see_the_same_claims,
        their_properties
    ]
}

async fn act_as(client: &Client, issuer: &Issuer, tenant: &str, more: Value) {
    let mut claims = json!({"tenant_id": tenant, "exp": now() + 600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    set(client, &issuer.sign(&claims)).await;
}

async fn they_say_what_the_token_says(db: Database) {
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    let more = json!({"sub": "u-1", "roles": ["admin", "billing"], "permissions": "read write", "plan": {"seats": 7}});
    act_as(&app, &issuer, A, more).await;
    for _ in 0..2 {
        let row = app
            .rows("SELECT bulkhead.user_id(), bulkhead.claims()->'plan'->>'seats', bulkhead.claims()->>'tenant_id'")
            .await;
        assert_eq!(row, [["u-1", "7", A]]);
    }
    let all = "SELECT string_agg(r || bulkhead.has_role(r) || bulkhead.has_permission(r), ' ' ORDER BY n)
                 FROM unnest(ARRAY['admin', 'billing', 'read', 'write', 'read write', '', 'Admin', 'adm']) WITH ORDINALITY u(r, n)";
    assert_eq!(
        app.one(all).await,
        "admintruefalse billingtruefalse readfalsetrue writefalsetrue read writefalsefalse falsefalse Adminfalsefalse admfalsefalse"
    );
    act_as(&app, &issuer, A, json!({"sub": 42})).await;
    assert_eq!(app.one("SELECT bulkhead.user_id()").await, "42");
}

async fn without_a_token_they_grant_nothing(db: Database) {
    issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    for set in ["", A] {
        app.run(&format!("SET {SET} = '{set}'")).await;
        let row =
            "SELECT bulkhead.claims(), bulkhead.user_id(), bulkhead.has_role('admin'), bulkhead.has_permission(''),
                          bulkhead.has_role(NULL), bulkhead.has_permission(NULL)";
        assert_eq!(app.rows(row).await, [["NULL", "NULL", "f", "f", "f", "f"]]);
    }
}

async fn roles_of_one_workspace_are_not_those_of_another(db: Database) {
    setting(&db, "bulkhead.tenant_claim", "app_metadata.org_id").await;
    setting(&db, "bulkhead.roles_claim", "workspaces.{tenant}.roles").await;
    setting(&db, "bulkhead.permissions_claim", "scope").await;
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    let workspaces =
        json!({"ws.one": {"roles": ["owner"]}, "ws": {"one": {"roles": ["intruder"]}}, "two": {"roles": ["viewer"]}});
    let claims = |org: &str| json!({"exp": now() + 60, "app_metadata": {"org_id": org}, "workspaces": workspaces, "scope": "a:read b:write"});
    let roles = "SELECT concat_ws(',', bulkhead.has_role('owner'), bulkhead.has_role('viewer'), bulkhead.has_role('intruder'), bulkhead.has_permission('b:write'))";
    for (org, expected) in [("ws.one", "t,f,f,t"), ("two", "f,t,f,t"), ("three", "f,f,f,t"), ("{tenant}", "f,f,f,t")] {
        set(&app, &issuer.sign(&claims(org))).await;
        assert_eq!(app.one(roles).await, expected, "{org}");
    }
}

async fn names_of_any_kind_are_harmless(db: Database) {
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    for roles in [json!(1), json!({"admin": true}), json!(null), json!([["admin"], {"admin": 1}, 7, null])] {
        act_as(&app, &issuer, A, json!({"roles": roles})).await;
        assert_eq!(app.one("SELECT bulkhead.has_role('admin')").await, "f", "{roles}");
    }
    act_as(&app, &issuer, A, json!({"sub": {"id": 1}, "roles": ["a'b", "日本", ""]})).await;
    let row = "SELECT bulkhead.user_id(), bulkhead.has_role('a''b'), bulkhead.has_role('日本'), bulkhead.has_role('')";
    assert_eq!(app.rows(row).await, [["NULL", "t", "t", "t"]]);
}

async fn answers_follow_a_switch_inside_a_query(db: Database) {
    setting(&db, "bulkhead.context_mode", "open").await;
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    let token = |tenant: &str, role: &str| {
        issuer.sign(&json!({"tenant_id": tenant, "exp": now() + 60, "sub": role, "roles": [role]}))
    };
    let tokens = [token(A, "admin"), token(B, "viewer"), token(A, "admin")];
    let query = format!(
        "SELECT t.n, bulkhead.has_role('admin'), bulkhead.user_id(), bulkhead.claims()->>'sub'
           FROM (SELECT n, bulkhead.set_tenant(t, false) FROM unnest(ARRAY['{}']) WITH ORDINALITY u(t, n) OFFSET 0) t",
        tokens.join("','")
    );
    let expected = [["1", "t", "admin", "admin"], ["2", "f", "viewer", "viewer"], ["3", "t", "admin", "admin"]];
    assert_eq!(app.rows(&query).await, expected);
}

async fn arguments_of_any_size_are_compared_whole(db: Database) {
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    let (kept, long) = ("k".repeat(128), "l".repeat(5_000));
    act_as(&app, &issuer, A, json!({"roles": [kept, long, "a"]})).await;
    app.run("CREATE TEMP TABLE name (id serial, n text)").await;
    app.run(&format!(
        "ALTER TABLE name ALTER n SET STORAGE EXTENDED;
         INSERT INTO name (n) VALUES ('a'), ('a'), (NULL), ('b'), ('{kept}'), ('{kept}k'), ('{long}'), ('{long}'), (repeat('z', 100000)), ('a')"
    ))
    .await;
    let answers = app.column("SELECT bulkhead.has_role(n) FROM name ORDER BY id").await;
    assert_eq!(answers, ["t", "t", "f", "f", "t", "f", "t", "t", "f", "t"]);
    // plpgsql keeps the expression from call to call.
    app.run(
        "DO $$ DECLARE n text; BEGIN FOREACH n IN ARRAY ARRAY['a', 'b', 'a', 'c'] LOOP
           ASSERT bulkhead.has_role(n) = (n = 'a'); END LOOP; END $$",
    )
    .await;
}

async fn policies_use_them(db: Database) {
    let issuer = signed(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE POLICY writers_insert ON note AS RESTRICTIVE FOR INSERT
               WITH CHECK (bulkhead.has_role('owner') OR bulkhead.has_role('member'));
             CREATE POLICY owners_delete ON note AS RESTRICTIVE FOR DELETE USING (bulkhead.has_role('owner'))",
        )
        .await;
    let app = db.connect("app").await;
    let insert = format!("INSERT INTO note VALUES (100, '{A}', 'new')");
    act_as(&app, &issuer, A, json!({"roles": ["viewer"]})).await;
    assert_eq!(seen(&app).await.len(), 5);
    app.refused(&insert).await.state("42501");
    assert_eq!(app.column("DELETE FROM note RETURNING id").await, [""; 0]);
    act_as(&app, &issuer, A, json!({"roles": ["member"]})).await;
    app.run(&insert).await;
    assert_eq!(app.column("DELETE FROM note WHERE id = 100 RETURNING id").await, [""; 0]);
    act_as(&app, &issuer, B, json!({"roles": ["owner"]})).await;
    assert_eq!(app.column("DELETE FROM note WHERE id = 100 RETURNING id").await, [""; 0]);
    act_as(&app, &issuer, A, json!({"roles": ["owner"]})).await;
    assert_eq!(app.column("DELETE FROM note WHERE id = 100 RETURNING id").await, ["100"]);
}

async fn workers_see_the_same_claims(db: Database) {
    let issuer = signed(&db).await;
    let owner = db.connect("owner").await;
    owner
        .run(
            "CREATE TABLE big (id int, tenant_id uuid); SELECT bulkhead.protect('big');
             ALTER TABLE big SET (parallel_workers = 2)",
        )
        .await;
    let load = format!(
        "INSERT INTO big SELECT i, CASE WHEN i % 2 = 0 THEN '{A}' ELSE '{B}' END::uuid FROM generate_series(1, 40000) i; ANALYZE big"
    );
    db.past_the_seal("postgres").await.run(&load).await;
    let app = db.connect("app").await;
    app.run("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off").await;
    let query = "SELECT count(*), min(bulkhead.user_id()), max(bulkhead.claims()->>'sub') FROM big WHERE bulkhead.has_role('admin')";
    for _ in 0..3 {
        act_as(&app, &issuer, A, json!({"sub": "u-1", "roles": ["admin"]})).await;
        let plan = app.column(&format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}")).await.join("\n");
        assert!(plan.contains("Workers Launched: 2"), "{plan}");
        assert_eq!(app.rows(query).await, [["20000", "u-1", "u-1"]]);
        act_as(&app, &issuer, A, json!({"roles": ["viewer"]})).await;
        assert_eq!(app.one("SELECT count(*) FROM big WHERE bulkhead.has_role('admin')").await, "0");
    }
    // A token from start-up, which was not verified by a SET.
    let mut config = db.config("app");
    let token = issuer.sign(&json!({"tenant_id": B, "exp": now() + 60, "sub": "u-2", "roles": ["admin"]}));
    let app = Client::connect(config.options(format!("-c {SET}={token}"))).await.unwrap();
    app.run("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off").await;
    assert_eq!(app.rows(query).await, [["20000", "u-2", "u-2"]]);
}

async fn their_properties(db: Database) {
    let admin = db.connect("postgres").await;
    let query = "SELECT proname, provolatile, proparallel, proleakproof FROM pg_proc
                  WHERE pronamespace = 'bulkhead'::regnamespace AND proname IN ('claims', 'user_id', 'has_role', 'has_permission') ORDER BY 1";
    let names = ["claims", "has_permission", "has_role", "user_id"];
    assert_eq!(admin.rows(query).await, names.map(|name| [name, "s", "s", "t"]));
}
