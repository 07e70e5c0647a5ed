//! bulkhead.jwks and its companions: what is accepted, from where, and who sees it.

use libtest_mimic::Trial;
use pg_test::{Client, Cluster, Database};
use serde_json::json;

use super::fixture::{A, B, Issuer, OF_A, SET, b64, issued, jwks, notes, now, seen, set};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        bad_keys_are_refused_with_a_name,
        a_symmetric_key_is_not_for_the_catalog,
        only_superusers_set_and_nobody_reads_the_keys,
        paths_are_checked,
        keys_change_while_connected => 240
    ]
}

async fn bad_keys_are_refused_with_a_name(db: Database) {
    let admin = db.connect("postgres").await;
    let good = Issuer::es("k1").jwk();
    let with = |name: &str, value: serde_json::Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    for (set, part) in [
        ("{".to_owned(), "it is not JSON"),
        ("{}".to_owned(), "no JWK Set"),
        (with("d", json!("AAAA")), "key \"k1\": it is a private key"),
        (with("alg", json!("RS256")), "key \"k1\": \"alg\" must be ES256"),
        (with("crv", json!("P-384")), "key \"k1\": \"crv\" must be P-256"),
        (with("x", good["y"].clone()), "no point of the curve"),
        (with("kty", json!("XX")), "\"kty\" must be"),
        (json!({"keys": [good, good]}).to_string(), "another of the same kid"),
        (json!({"keys": [{"kty": "oct", "kid": "s", "k": b64([1; 31])}]}).to_string(), "at least 32 bytes"),
        (json!({"keys": [{"kty": "RSA", "kid": "r", "n": b64([255; 128]), "e": "AQAB"}]}).to_string(), "2048 to 8192"),
    ] {
        admin
            .refused(&format!("SET bulkhead.jwks = '{set}'"))
            .await
            .state("22023")
            .message_contains("invalid value for bulkhead.jwks")
            .message_contains(part);
    }
}

async fn a_symmetric_key_is_not_for_the_catalog(db: Database) {
    notes(&db).await;
    let admin = db.connect("postgres").await;
    let secret = Issuer::hs("s");
    let value = jwks(&[&secret]);
    for target in [
        format!("DATABASE {}", db.name),
        "ROLE app".into(),
        format!("ROLE app IN DATABASE {}", db.name),
        "ROLE ALL".into(),
    ] {
        admin
            .refused(&format!("ALTER {target} SET bulkhead.jwks = '{value}'"))
            .await
            .state("22023")
            .message_contains("a symmetric key cannot be set for a role or database")
            .hint_contains("ALTER SYSTEM");
    }
    let function = format!("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET bulkhead.jwks = '{value}' AS 'SELECT 1'");
    admin.refused(&function).await.state("22023");
    // A superuser may set it in a session: that goes nowhere.
    admin.run(&format!("SET bulkhead.jwks = '{value}'; SET {SET} = '{}'", secret.token(A))).await;
    assert_eq!(admin.one("SELECT bulkhead.tenant_id()").await, A);
}

async fn only_superusers_set_and_nobody_reads_the_keys(db: Database) {
    let issuer = issued(&db, Issuer::es("visible-kid")).await;
    let admin = db.connect("postgres").await;
    admin.run("DROP ROLE IF EXISTS token_monitor; CREATE ROLE token_monitor LOGIN IN ROLE pg_monitor").await;
    let app = db.connect("app").await;
    for name in ["jwks", "jwt_issuer", "jwt_audience", "jwt_leeway", "tenant_claim", "roles_claim", "permissions_claim"]
    {
        app.refused(&format!("SET bulkhead.{name} = '1'")).await.state("42501").message_contains("permission denied");
        app.refused(&format!("ALTER ROLE app SET bulkhead.{name} = '1'")).await.state("42501");
        app.refused(&format!("SELECT set_config('bulkhead.{name}', '1', true)")).await.state("42501");
    }
    app.refused("SHOW bulkhead.jwks").await.state("42501");
    let x = issuer.jwk()["x"].as_str().unwrap().to_owned();
    for client in [&db.connect("token_monitor").await, &db.connect("postgres").await] {
        assert_eq!(client.one("SHOW bulkhead.jwks").await, "visible-kid");
        assert_eq!(client.one("SELECT count(*) FROM pg_settings s WHERE s::text LIKE '%visible-kid%'").await, "0");
        let all = client.one(&format!("SELECT count(*) FROM pg_settings s WHERE s::text LIKE '%{x}%'")).await;
        assert_eq!(all, "0");
    }
    admin.run("DROP ROLE token_monitor").await;
}

async fn paths_are_checked(db: Database) {
    let admin = db.connect("postgres").await;
    for bad in ["", ".", "a..b", "a.{tenant}"] {
        admin.refused(&format!("SET bulkhead.tenant_claim = '{bad}'")).await.state("22023").message_contains("path");
    }
    admin.refused("SET bulkhead.roles_claim = 'a.'").await.state("22023");
    admin.run("SET bulkhead.roles_claim = 'workspaces.{tenant}.roles'").await;
    admin.run("SET bulkhead.jwt_leeway = '2min'").await;
    assert_eq!(admin.one("SHOW bulkhead.jwt_leeway").await, "2min");
    assert_eq!(db.connect("app").await.one("SHOW bulkhead.jwt_leeway").await, "30s");
    admin.refused("SET bulkhead.jwt_leeway = -1").await.state("22023");
}

/// Until a session's settings have followed a reload.
async fn reloaded(client: &Client, done: impl AsyncFn(&Client) -> bool) {
    for _ in 0..100 {
        if done(client).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the reload did not reach the session");
}

/// On a server of its own: what the configuration file says is everybody's.
async fn keys_change_while_connected(_db: Database) {
    let (old, new, secret) = (Issuer::es("old"), Issuer::ed("new"), Issuer::hs("secret"));
    let cluster = Cluster::builder()
        .setting("bulkhead.jwks", jwks(&[&old, &secret]))
        .setting("bulkhead.context_mode", "signed")
        .start()
        .unwrap();
    let db = cluster.database("rotation").unwrap();
    notes(&db).await;
    let admin = db.connect("postgres").await;
    let apply = async |keys: &[&Issuer]| {
        admin.run(&format!("ALTER SYSTEM SET bulkhead.jwks = '{}'", jwks(keys))).await;
        admin.run("SELECT pg_reload_conf()").await;
    };
    let app = db.connect("app").await;
    // A symmetric key works from the file.
    set(&app, &secret.token(B)).await;
    assert_eq!(app.one("SELECT bulkhead.tenant_id()").await, B);
    set(&app, &old.token(A)).await;
    assert_eq!(seen(&app).await, OF_A);
    app.refused(&format!("SET {SET} = '{}'", new.token(A))).await.state("28000").message_contains("unknown kid");
    set(&app, &old.token(A)).await;

    // Both during rotation: the session keeps its tenant, and a token of either key counts.
    apply(&[&old, &new]).await;
    let fresh = new.token(A);
    let accepted = async |client: &Client| client.batch_execute(&format!("SET {SET} = '{fresh}'")).await.is_ok();
    reloaded(&app, accepted).await;
    set(&app, &old.token(A)).await;
    assert_eq!(seen(&app).await, OF_A);

    // The old one revoked: the session that has a token of it loses its tenant, without a new connection.
    let other = db.connect("app").await;
    set(&other, &new.token(A)).await;
    apply(&[&new]).await;
    reloaded(&app, async |client: &Client| client.one("SELECT bulkhead.tenant_id()").await == "NULL").await;
    app.refused("SELECT FROM note").await.state("42501").detail_contains("unknown kid");
    assert_eq!(
        app.one("SELECT value FROM bulkhead.status() WHERE item = 'token'").await,
        "does not count: unknown kid"
    );
    app.refused(&format!("SET {SET} = '{}'", old.token(A))).await.state("28000");
    assert_eq!(seen(&other).await, OF_A);
    // A set that is no good leaves the keys as they were.
    admin.refused("ALTER SYSTEM SET bulkhead.jwks = 'x'").await.state("22023");

    // Another claim by reload: the token that was verified before is judged anew.
    let claims = json!({"tenant_id": A, "org": B, "exp": now() + 600});
    set(&other, &new.sign(&claims)).await;
    assert_eq!(other.one("SELECT bulkhead.tenant_id()").await, A);
    admin.run("ALTER SYSTEM SET bulkhead.tenant_claim = 'org'").await;
    admin.run("SELECT pg_reload_conf()").await;
    reloaded(&db.connect("postgres").await, async |client: &Client| {
        client.one("SHOW bulkhead.tenant_claim").await == "org"
    })
    .await;
    set(&other, &new.sign(&claims)).await;
    assert_eq!(other.one("SELECT bulkhead.tenant_id()").await, B);
}
