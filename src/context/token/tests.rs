//! Tokens signed here, with keys made here.

use jsonwebtoken::{EncodingKey, crypto};
use serde_json::json;

use super::*;

const SECRET: [u8; 32] = [7; 32];

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn requirements() -> TokenRequirements {
    let path = |text| Path::parse(text, true).unwrap_or_else(|fault| panic!("{fault}"));
    let set = format!(r#"{{"keys":[{{"kty":"oct","kid":"k","k":"{}"}}]}}"#, b64(SECRET));
    TokenRequirements {
        keys: jwks::parse(&set).unwrap_or_else(|fault| panic!("{fault}")),
        issuer: None,
        audience: None,
        leeway: 30,
        tenant: path("tenant_id"),
        roles: path("roles"),
        permissions: path("permissions"),
        ascii_only: false,
    }
}

/// Any header and payload, signed with HS256 whatever the header says.
fn signed(header: &str, payload: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let key = EncodingKey::from_secret(&SECRET);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap_or_default();
    format!("{message}.{signature}")
}

const HEADER: &str = r#"{"alg":"HS256","kid":"k"}"#;

fn claims(payload: &str, requirements: &TokenRequirements) -> Result<Verified, Fault> {
    verify(signed(HEADER, payload).as_bytes(), requirements)
}

#[track_caller]
fn fault(token: &str) -> Fault {
    verify(token.as_bytes(), &requirements()).err().unwrap_or_else(|| panic!("{token} was accepted"))
}

const GOOD: &str = r#"{"tenant_id":"t","exp":100,"sub":"u","roles":["admin"],"permissions":"read write"}"#;

#[test]
fn a_good_token_says_who_it_is_for() {
    let verified = claims(GOOD, &requirements()).unwrap_or_else(|fault| panic!("{fault:?}"));
    assert_eq!(verified.tenant.id(), b"t");
    assert_eq!((verified.subject.as_deref(), verified.kid.as_deref()), (Some("u"), Some("k")));
    assert_eq!((verified.roles, verified.permissions), (vec!["admin".to_owned()], vec!["read".into(), "write".into()]));
    assert_eq!(verified.expires, 100_000_000);
}

#[test]
fn headers_that_are_not_understood_are_refused() {
    for (header, expected) in [
        (r#"{"alg":"none","kid":"k"}"#, Fault::NotAllowed),
        (r#"{"alg":"hs256","kid":"k"}"#, Fault::NotAllowed),
        (r#"{"alg":"HS512","kid":"k"}"#, Fault::NotAllowed),
        (r#"{"alg":["HS256"],"kid":"k"}"#, Fault::NotAllowed),
        (r#"{"kid":"k"}"#, Fault::NotAllowed),
        (r#"{"alg":"RS256","kid":"k"}"#, Fault::NotAllowedForKey),
        (r#"{"alg":"ES256","kid":"k"}"#, Fault::NotAllowedForKey),
        (r#"{"alg":"HS256"}"#, Fault::NoKid),
        (r#"{"alg":"HS256","kid":"K"}"#, Fault::UnknownKid),
        (r#"{"alg":"HS256","kid":1}"#, Fault::WrongType("kid")),
        (r#"{"alg":"HS256","kid":"k","crit":["b64"],"b64":false}"#, Fault::CriticalHeader),
        (r#"{"alg":"HS256","kid":"k","crit":[]}"#, Fault::CriticalHeader),
        (r#"{"alg":"HS256","kid":"k","alg":"HS256"}"#, Fault::Duplicate("header")),
        (r#"{"alg":"HS256","kid":"k","x":{"a":1,"a":1}}"#, Fault::Duplicate("header")),
        (r#"["alg"]"#, Fault::NotAJwt("header is not a JSON object")),
    ] {
        assert_eq!(fault(&signed(header, GOOD)), expected, "{header}");
    }
    let empty = TokenRequirements { keys: Vec::new(), ..requirements() };
    assert_eq!(claims(GOOD, &empty).err(), Some(Fault::NoKeys));
}

#[test]
fn every_changed_byte_is_noticed() {
    let token = signed(HEADER, GOOD);
    for at in 0..token.len() {
        for other in [b'A', b'B', b'-', b'=', b'.', b' '] {
            let mut bytes = token.clone().into_bytes();
            if bytes[at] != other {
                bytes[at] = other;
                assert!(verify(&bytes, &requirements()).is_err(), "byte {at} as {}", other as char);
            }
        }
    }
    for length in 0..token.len() {
        assert!(verify(&token.as_bytes()[..length], &requirements()).is_err(), "{length} bytes");
    }
    for more in ["=", ".", "A", " ", "\n", ".x"] {
        assert!(verify(format!("{token}{more}").as_bytes(), &requirements()).is_err(), "{more:?}");
        assert!(verify(format!("{more}{token}").as_bytes(), &requirements()).is_err(), "{more:?}");
    }
}

#[test]
fn a_signature_has_one_spelling() {
    let token = signed(HEADER, GOOD);
    // 32 bytes leave two bits of the last character unused.
    let last = token.chars().last().unwrap_or('A');
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap_or(0);
    for other in 1..4 {
        let changed = alphabet.chars().nth(at ^ other).unwrap_or('A');
        let spelling = format!("{}{changed}", &token[..token.len() - 1]);
        assert_eq!(fault(&spelling), Fault::NotAJwt("signature is not base64url without padding"));
    }
    let (message, _) = token.rsplit_once('.').unwrap_or_default();
    assert_eq!(fault(&format!("{message}.")), Fault::BadSignature);
    assert_eq!(fault(message), Fault::NotAJwt("three parts separated by dots are needed"));
}

#[test]
fn claims_of_the_wrong_kind_are_refused() {
    let no_tenant = || "tenant_id".to_owned();
    for (payload, expected) in [
        (r#"{"tenant_id":"t"}"#, Fault::NoExpiry),
        (r#"{"tenant_id":"t","exp":"100"}"#, Fault::WrongType("exp")),
        (r#"{"tenant_id":"t","exp":null}"#, Fault::WrongType("exp")),
        (r#"{"tenant_id":"t","exp":[100]}"#, Fault::WrongType("exp")),
        (r#"{"tenant_id":"t","exp":100,"nbf":"1"}"#, Fault::WrongType("nbf")),
        (r#"{"tenant_id":"t","exp":100,"nbf":true}"#, Fault::WrongType("nbf")),
        (r#"{"exp":100}"#, Fault::NoTenant(no_tenant())),
        (r#"{"exp":100,"tenant_id":null}"#, Fault::NoTenant(no_tenant())),
        (r#"{"exp":100,"tenant_id":["t"]}"#, Fault::TenantType(no_tenant())),
        (r#"{"exp":100,"tenant_id":1.0}"#, Fault::TenantType(no_tenant())),
        (r#"{"exp":100,"tenant_id":true}"#, Fault::TenantType(no_tenant())),
        (r#"{"exp":100,"tenant_id":""}"#, Fault::TenantId(no_tenant(), "is empty")),
        (r#"{"exp":100,"tenant_id":"a\tb"}"#, Fault::TenantId(no_tenant(), "contains a control character")),
        (r#"{"exp":100,"exp":200,"tenant_id":"t"}"#, Fault::Duplicate("payload")),
        (r#"{"exp":100,"tenant_id":"t","tenant_id":"u"}"#, Fault::Duplicate("payload")),
        (r#"{"exp":100,"tenant_id":"t","x":"\u0000"}"#, Fault::Nul),
        (r#"[]"#, Fault::NotAJwt("payload is not a JSON object")),
        (r#"{"exp":1e999,"tenant_id":"t"}"#, Fault::NotAJwt("payload is not a JSON object")),
    ] {
        assert_eq!(claims(payload, &requirements()).err(), Some(expected), "{payload}");
    }
    let long = format!(r#"{{"exp":100,"tenant_id":"{}"}}"#, "x".repeat(256));
    assert_eq!(claims(&long, &requirements()).err(), Some(Fault::TenantId(no_tenant(), "is too long for a tenant id")));
    assert_eq!(fault(&"x".repeat(16_385)), Fault::TooLarge(16_385));
}

#[test]
fn a_tenant_may_be_a_number() {
    for (id, expected) in [("42", "42"), ("-7", "-7"), ("18446744073709551615", "18446744073709551615")] {
        let verified = claims(&format!(r#"{{"exp":100,"tenant_id":{id}}}"#), &requirements());
        assert_eq!(verified.map(|verified| verified.tenant.id().to_vec()).ok().as_deref(), Some(expected.as_bytes()));
    }
}

#[test]
fn time_is_judged_at_use() {
    let at = |payload: &str, start: i64, now: i64| {
        claims(payload, &requirements())
            .and_then(|verified| verified.check_time(start * MICROSECONDS, now * MICROSECONDS))
            .err()
    };
    assert_eq!(at(r#"{"tenant_id":"t","exp":100}"#, 99, 99), None);
    assert_eq!(at(r#"{"tenant_id":"t","exp":100}"#, 100, 100), Some(Fault::Expired));
    assert_eq!(at(r#"{"tenant_id":"t","exp":100.5}"#, 100, 100), None);
    assert_eq!(at(r#"{"tenant_id":"t","exp":-1}"#, 100, 100), Some(Fault::Expired));
    assert_eq!(at(r#"{"tenant_id":"t","exp":1e300}"#, 100, 100), None);
    assert_eq!(at(r#"{"tenant_id":"t","exp":18446744073709551615}"#, 100, 100), None);
    // The leeway of 30 seconds is for nbf only.
    assert_eq!(at(r#"{"tenant_id":"t","exp":1000,"nbf":130}"#, 0, 100), None);
    assert_eq!(at(r#"{"tenant_id":"t","exp":1000,"nbf":131}"#, 0, 100), Some(Fault::NotYetValid));
    assert_eq!(at(r#"{"tenant_id":"t","exp":1000,"nbf":1e300}"#, 0, 100), Some(Fault::NotYetValid));
}

#[test]
fn issuer_and_audience_count_when_they_are_set() {
    let with = |issuer: Option<&str>, audience: Option<&str>, more: serde_json::Value| {
        let mut payload = json!({"tenant_id": "t", "exp": 100});
        if let (Some(all), Some(more)) = (payload.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        let requirements = TokenRequirements {
            issuer: issuer.map(str::to_owned),
            audience: audience.map(str::to_owned),
            ..requirements()
        };
        claims(&payload.to_string(), &requirements).err()
    };
    assert_eq!(with(None, None, json!({"iss": 1, "aud": 2})), None);
    assert_eq!(with(Some("i"), None, json!({"iss": "i"})), None);
    assert_eq!(with(Some("i"), None, json!({"iss": "I"})), Some(Fault::WrongIssuer));
    assert_eq!(with(Some("i"), None, json!({})), Some(Fault::WrongIssuer));
    assert_eq!(with(Some("i"), None, json!({"iss": ["i"]})), Some(Fault::WrongType("iss")));
    assert_eq!(with(None, Some("a"), json!({"aud": "a"})), None);
    assert_eq!(with(None, Some("a"), json!({"aud": ["b", "a"]})), None);
    assert_eq!(with(None, Some("a"), json!({"aud": ["b"]})), Some(Fault::WrongAudience));
    assert_eq!(with(None, Some("a"), json!({})), Some(Fault::WrongAudience));
    assert_eq!(with(None, Some("a"), json!({"aud": ["a", 1]})), Some(Fault::WrongType("aud")));
}

#[test]
fn only_ascii_where_the_encoding_is_not_utf8() {
    let strict = TokenRequirements { ascii_only: true, ..requirements() };
    assert_eq!(claims(r#"{"tenant_id":"t","exp":100,"name":"\u00e9"}"#, &strict).err(), Some(Fault::NotAscii));
    assert!(claims(GOOD, &strict).is_ok());
}
