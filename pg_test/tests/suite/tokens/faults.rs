//! Each check that a token can fail: 28000, a message that says which, nothing of the token repeated, and no tenant afterwards.

use libtest_mimic::Trial;
use pg_test::{Client, Database};
use serde_json::{Value, json};

use super::fixture::{A, B, Issuer, OF_A, SET, b64, issued, jwks, notes, now, seen, set, setting};

pub fn tests() -> Vec<Trial> {
    crate::tests![
        public_key_algorithms_set_a_tenant,
        each_check_says_which_it_was,
        a_public_key_is_no_secret,
        a_signature_is_whole_and_has_one_spelling,
        issuer_audience_and_not_before,
        a_token_comes_as_a_parameter_too,
        a_text_that_is_no_token_stays_an_id,
        strange_bytes_harm_nothing
    ]
}

async fn public_key_algorithms_set_a_tenant(db: Database) {
    notes(&db).await;
    let issuers = [Issuer::rs("r"), Issuer::es("e"), Issuer::ed("d"), Issuer::es("-").without_kid()];
    setting(&db, "bulkhead.jwks", &jwks(&issuers.iter().collect::<Vec<_>>())).await;
    let app = db.connect("app").await;
    for issuer in &issuers {
        set(&app, &issuer.token(A)).await;
        assert_eq!(seen(&app).await, OF_A, "{}", issuer.algorithm());
        assert_eq!(app.one("SHOW bulkhead.tenant_context").await, A);
        app.run("RESET bulkhead.tenant_context").await;
        app.refused("SELECT FROM note").await.state("42501");
    }
}

/// Refused with 28000 and this message; no part of the token comes back; the tenant of before is gone.
async fn fails(app: &Client, issuer: &Issuer, token: &str, message: &str) {
    set(app, &issuer.token(A)).await;
    assert_eq!(seen(app).await, OF_A);
    let refused = app.refused(&format!("SET {SET} = '{token}'")).await;
    let refused = refused.state("28000").message(&format!("invalid tenant token: {message}"));
    let text = format!("{} {} {}", refused.message, refused.detail, refused.hint);
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!text.contains(&part[..8]), "{text}");
    }
    assert!(!refused.hint.is_empty() && !refused.detail.is_empty());
    app.refused("SELECT FROM note").await.state("42501").detail_contains("A tenant token was refused");
    assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
    assert_eq!(app.one("SHOW bulkhead.tenant_context").await, "");
}

async fn each_check_says_which_it_was(db: Database) {
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    let good = json!({"tenant_id": A, "exp": now() + 60});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.sign(&claims)
    };
    let header = |header: Value| issuer.sign_text(&header.to_string(), &good.to_string());
    let payload = |payload: &str| issuer.sign_text(&issuer.header().to_string(), payload);
    let stranger = Issuer::es("k1");
    let unknown = Issuer::es("k2");
    let (exp, none) = (now() + 60, header(json!({"alg": "none"})));
    for (token, message) in [
        (with("exp", json!(now() - 1)), "expired"),
        (with("exp", json!("soon")), "wrong type of \"exp\""),
        (with("nbf", json!(now() + 300)), "not yet valid"),
        (with("nbf", json!([])), "wrong type of \"nbf\""),
        (issuer.sign(&json!({"tenant_id": A})), "no exp"),
        (issuer.sign(&json!({"exp": exp})), "no claim \"tenant_id\""),
        (with("tenant_id", json!({"id": A})), "claim \"tenant_id\" is neither a string nor an integer"),
        (with("tenant_id", json!("")), "claim \"tenant_id\" is empty"),
        (with("name", json!("\0")), "a claim contains a NUL character"),
        (stranger.token(A), "bad signature"),
        (unknown.token(A), "unknown kid"),
        (Issuer::es("k").without_kid().token(A), "no kid, and every key in bulkhead.jwks has one"),
        (none.clone(), "algorithm not allowed"),
        (format!("{}.", none.rsplit_once('.').unwrap().0), "algorithm not allowed"),
        (header(json!({"alg": "HS256", "kid": "k1"})), "algorithm not allowed for the key"),
        (header(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]})), "critical header not understood"),
        (
            issuer.sign_text(r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#, &good.to_string()),
            "duplicate member in the header",
        ),
        (
            payload(&format!(r#"{{"exp":{exp},"tenant_id":"{A}","tenant_id":"{B}"}}"#)),
            "duplicate member in the payload",
        ),
        (
            payload(&format!(r#"{{"exp":{exp},"tenant_id":"{A}","x":{{"y":1,"y":2}}}}"#)),
            "duplicate member in the payload",
        ),
        (payload("[]"), "not a JWT (payload is not a JSON object)"),
        ("eyJ.x".to_owned(), "not a JWT (three parts separated by dots are needed)"),
        ("eyJ.e30.AA".to_owned(), "not a JWT (header is not base64url without padding)"),
        (format!("{}.e30.AA", b64(r#"{"alg""#)), "not a JWT (header is not a JSON object)"),
        (with("padding", json!("x".repeat(16_384))), "too large"),
    ] {
        let whole = if message == "too large" {
            format!("too large ({} bytes, at most 16384 are allowed)", token.len())
        } else {
            message.to_owned()
        };
        fails(&app, &issuer, &token, &whole).await;
    }
    // The log has the message and, with the statement that the client sent as text, no more than that.
    assert!(db.log().contains("invalid tenant token: bad signature"));
}

async fn a_public_key_is_no_secret(db: Database) {
    let issuer = issued(&db, Issuer::rs("r")).await;
    let app = db.connect("app").await;
    let jwk = issuer.jwk();
    for secret in [jwk["n"].as_str().unwrap().as_bytes().to_vec(), jwk.to_string().into_bytes()] {
        let forger = Issuer { kid: Some("r".into()), pair: super::issuer::Pair::Hs(secret) };
        fails(&app, &issuer, &forger.token(B), "algorithm not allowed for the key").await;
    }
}

async fn a_signature_is_whole_and_has_one_spelling(db: Database) {
    let issuer = issued(&db, Issuer::ed("k1")).await;
    let app = db.connect("app").await;
    let token = issuer.token(A);
    let (message, signature) = token.rsplit_once('.').unwrap();
    for (signature, fault) in [
        (String::new(), "bad signature"),
        (signature[..80].to_owned(), "bad signature"),
        (format!("{signature}AA"), "bad signature"),
        (b64([0; 64]), "bad signature"),
        (format!("{signature}=="), "not a JWT (signature is not base64url without padding)"),
        (format!("{signature}+/"), "not a JWT (signature is not base64url without padding)"),
        (format!("{signature}.AA"), "not a JWT (three parts separated by dots are needed)"),
    ] {
        fails(&app, &issuer, &format!("{message}.{signature}"), fault).await;
    }
    // The payload of B under the signature of A.
    let of_b = issuer.token(B);
    let swapped = format!("{}.{signature}", of_b.rsplit_once('.').unwrap().0);
    fails(&app, &issuer, &swapped, "bad signature").await;
}

async fn issuer_audience_and_not_before(db: Database) {
    let issuer = issued(&db, Issuer::ed("k1")).await;
    setting(&db, "bulkhead.jwt_issuer", "https://id.example.com").await;
    setting(&db, "bulkhead.jwt_audience", "db").await;
    setting(&db, "bulkhead.jwt_leeway", "1min").await;
    let app = db.connect("app").await;
    let token = |iss: Value, aud: Value, nbf: i64| {
        issuer.sign(&json!({"tenant_id": A, "exp": now() + 600, "iss": iss, "aud": aud, "nbf": now() + nbf}))
    };
    let good = json!("https://id.example.com");
    for aud in [json!("db"), json!(["web", "db"])] {
        set(&app, &token(good.clone(), aud, 50)).await;
        assert_eq!(seen(&app).await, OF_A);
    }
    for (token, message) in [
        (token(json!("https://id.example.com/"), json!("db"), 0), "wrong issuer"),
        (token(Value::Null, json!("db"), 0), "wrong type of \"iss\""),
        (token(json!([good]), json!("db"), 0), "wrong type of \"iss\""),
        (token(good.clone(), json!(["web"]), 0), "wrong audience"),
        (token(good.clone(), json!(1), 0), "wrong type of \"aud\""),
        (token(good.clone(), json!("db"), 90), "not yet valid"),
        (issuer.token(A), "wrong issuer"),
    ] {
        app.refused(&format!("SET {SET} = '{token}'"))
            .await
            .state("28000")
            .message(&format!("invalid tenant token: {message}"));
    }
}

async fn a_token_comes_as_a_parameter_too(db: Database) {
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    app.run("BEGIN").await;
    app.execute("SELECT bulkhead.set_tenant($1)", &[&issuer.token(A)]).await.unwrap();
    assert_eq!(seen(&app).await, OF_A);
    app.run("COMMIT").await;
    app.execute("SELECT set_config('bulkhead.tenant_context', $1, false)", &[&issuer.token(B)]).await.unwrap();
    assert_eq!(app.one("SELECT bulkhead.tenant_id()").await, B);
    app.run("RESET bulkhead.tenant_context").await;
    app.run("PREPARE become(text) AS SELECT bulkhead.set_tenant($1, false)").await;
    app.run(&format!("EXECUTE become('{}')", issuer.token(A))).await;
    assert_eq!(seen(&app).await, OF_A);
    // What set_config() answers is the tenant, not the token.
    let sql = format!("SELECT set_config('{SET}', '{}', false)", issuer.token(A));
    assert_eq!(app.one(&sql).await, A);
}

async fn a_text_that_is_no_token_stays_an_id(db: Database) {
    issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    for id in ["a.b.c", "eyJ", "EyJ.a.b", "eyj.a.b", " eyJ.a.b"] {
        app.run(&format!("SET {SET} = '{id}'")).await;
        assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, id);
        assert_eq!(app.one("SELECT bulkhead.claims()").await, "NULL");
    }
}

async fn strange_bytes_harm_nothing(db: Database) {
    let issuer = issued(&db, Issuer::es("k1")).await;
    let app = db.connect("app").await;
    let header = issuer.header().to_string();
    for payload in [b"\xff\xfe".as_slice(), b"{\"a\":\"\xc3\x28\"}", b"", b"null", b"\xef\xbb\xbf{}"] {
        let message = format!("{}.{}", b64(&header), b64(payload));
        app.refused(&format!("SET {SET} = '{message}.AAAA'")).await.state("28000");
    }
    app.refused(&format!("SET {SET} = 'eyJ\u{e9}.\u{1F600}.x'")).await.state("28000");
    let mut config = db.config("app");
    let client = Client::connect(config.options("-c bulkhead.tenant_context=eyJ\u{e9}.b.c")).await.unwrap();
    assert_eq!(client.one("SELECT bulkhead.tenant_id_text()").await, "NULL");
    // Claims of any depth and script.
    let claims =
        json!({"tenant_id": "日本", "exp": now() + 60, "a": {"b": [1, -2.5, true, null, {"ü": "😀"}]}, "n": 1e22});
    set(&app, &issuer.sign(&claims)).await;
    assert_eq!(app.one("SELECT bulkhead.tenant_id_text()").await, "日本");
    assert_eq!(app.one("SELECT bulkhead.claims()->'a'->'b'->4->>'ü'").await, "😀");
    assert_eq!(app.one("SELECT (bulkhead.claims()->'n')::numeric = 1e22").await, "t");
}
