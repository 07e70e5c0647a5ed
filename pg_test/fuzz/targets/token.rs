//! Tokens and keys: whatever they are, they are refused, or what is taken from them is what was signed.

#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fuzz::context::token::path::Path;
use fuzz::context::token::{TokenRequirements, jwks, verify};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

thread_local! {
    static RULES: LazyLock<TokenRequirements> = const { LazyLock::new(rules) };
}

fn rules() -> TokenRequirements {
    let keys =
        format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","kid":"k","k":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(SECRET));
    let path = |text| Path::parse(text, true).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    TokenRequirements {
        keys: jwks::parse(&keys).unwrap_or_else(|fault| panic!("{fault}")),
        issuer: None,
        audience: None,
        leeway: 60,
        tenant: path("tenant_id"),
        roles: path("roles"),
        permissions: path("orgs.{tenant}.permissions"),
        ascii_only: false,
    }
}

fuzz_target!(|bytes: &[u8]| {
    RULES.with(|rules| {
        assert!(verify(bytes, rules).is_err(), "nobody has signed this");
        // The same as a payload that is signed: what is behind the signature is read as well.
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"k"}"#), URL_SAFE_NO_PAD.encode(bytes));
        let Ok(signature) = crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256) else {
            return;
        };
        if let Ok(verified) = verify(format!("{signed}.{signature}").as_bytes(), rules) {
            assert!(!verified.tenant.is_none(), "a token that counts names a tenant");
            assert!(verified.expires > i64::MIN);
        }
    });
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = jwks::parse(text);
        let _ = Path::parse(text, true);
    }
});
