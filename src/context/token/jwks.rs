//! The keys that tokens are verified with: a JWK Set (RFC 7517).
//!
//! Each key stands for exactly one algorithm, which follows from its type; what a token's header says is only compared with it. That
//! is what ends confusion of algorithms. Public keys and symmetric keys only: a private key has no place in a setting.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::json;

/// An HS256 key shorter than its hash can be guessed (RFC 7518, 3.2).
const LEAST_SECRET: usize = 32;
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
const MOST_KEYS: usize = 100;

pub struct Key {
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

impl Key {
    /// Whoever can read the key can also sign with it.
    pub fn is_secret(&self) -> bool {
        self.algorithm == Algorithm::HS256
    }
}

/// The keys of a set; empty text is an empty set. The error names the key, and says what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Key>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let set = json::parse(text.as_bytes()).map_err(|fault| match fault {
        json::Fault::NotJson => "it is not JSON".to_owned(),
        json::Fault::Duplicate => "it has a duplicate member".to_owned(),
        json::Fault::Nul => "a string in it contains a NUL character".to_owned(),
    })?;
    let Some(all) = set.get("keys").and_then(Value::as_array) else {
        return Err("it is no JWK Set: an object with an array \"keys\" is needed".to_owned());
    };
    if all.len() > MOST_KEYS {
        return Err(format!("it has more than {MOST_KEYS} keys"));
    }
    let mut keys: Vec<Key> = Vec::new();
    for (at, jwk) in all.iter().enumerate() {
        let kid = kid(jwk).map_err(|fault| format!("key number {}: {fault}", at + 1))?;
        let name = match &kid {
            Some(kid) => format!("key \"{kid}\""),
            None => format!("key number {} (without kid)", at + 1),
        };
        if let Some(key) = key(jwk, &kid).map_err(|fault| format!("{name}: {fault}"))? {
            if keys.iter().any(|other| other.kid == key.kid) {
                return Err(format!(
                    "{name}: there is another of the same kid, and a token could not say which it means"
                ));
            }
            keys.push(key);
        }
    }
    Ok(keys)
}

fn kid(jwk: &Value) -> Result<Option<String>, &'static str> {
    match jwk.get("kid") {
        None => Ok(None),
        Some(Value::String(kid))
            if !kid.is_empty() && kid.len() <= 255 && kid.bytes().all(|b| (0x20..0x7f).contains(&b)) =>
        {
            Ok(Some(kid.clone()))
        }
        Some(_) => Err("\"kid\" must be 1 to 255 printable ASCII characters"),
    }
}

/// `None`: a key for encryption, as issuers publish them in the same set.
fn key(jwk: &Value, kid: &Option<String>) -> Result<Option<Key>, String> {
    let jwk = jwk.as_object().ok_or("it is not an object")?;
    match jwk.get("use") {
        None => {}
        Some(Value::String(word)) if word == "sig" => {}
        Some(Value::String(word)) if word == "enc" => return Ok(None),
        Some(_) => return Err("\"use\" must be \"sig\"".into()),
    }
    if let Some(operations) = jwk.get("key_ops")
        && !operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
    {
        return Err("\"key_ops\" does not contain \"verify\"".into());
    }
    let kty = jwk.get("kty").and_then(Value::as_str).unwrap_or("");
    if kty != "oct" && ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| jwk.contains_key(*name)) {
        return Err("it is a private key; only its public members are needed, take \"d\" and the like out".into());
    }
    let (algorithm, key) = match kty {
        "oct" => (Algorithm::HS256, secret(jwk)?),
        "RSA" => (Algorithm::RS256, rsa(jwk)?),
        "EC" => (Algorithm::ES256, p256(jwk)?),
        "OKP" => (Algorithm::EdDSA, ed25519(jwk)?),
        _ => return Err("\"kty\" must be oct, RSA, EC or OKP".into()),
    };
    if jwk.get("alg").is_some_and(|alg| alg != name(algorithm)) {
        return Err(format!("\"alg\" must be {} for a key of this type", name(algorithm)));
    }
    Ok(Some(Key { kid: kid.clone(), algorithm, key }))
}

pub fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        _ => "not allowed",
    }
}

/// A member of base64url without padding.
fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("\"{name}\" is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("\"{name}\" is not base64url without padding"))
}

fn secret(jwk: &Map<String, Value>) -> Result<DecodingKey, String> {
    let secret = bytes(jwk, "k")?;
    if secret.len() < LEAST_SECRET {
        return Err(format!("a symmetric key needs at least {LEAST_SECRET} bytes"));
    }
    Ok(DecodingKey::from_secret(&secret))
}

fn rsa(jwk: &Map<String, Value>) -> Result<DecodingKey, String> {
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if n.first() == Some(&0) || n.last().is_none_or(|last| last % 2 == 0) {
        return Err("\"n\" is no RSA modulus".into());
    }
    if !RSA_BITS.contains(&bits) {
        return Err(format!("an RSA key needs {} to {} bits, this one has {bits}", RSA_BITS.start(), RSA_BITS.end()));
    }
    // As the library that verifies has it: odd, from 3, below 2^33.
    if e.first().is_none_or(|first| *first == 0) || e.len() > 4 || e.last().is_none_or(|last| last % 2 == 0) || e == [1]
    {
        return Err("\"e\" is no RSA exponent of at most 32 bits".into());
    }
    Ok(DecodingKey::from_rsa_raw_components(&n, &e))
}

fn p256(jwk: &Map<String, Value>) -> Result<DecodingKey, String> {
    if jwk.get("crv").is_none_or(|curve| curve != "P-256") {
        return Err("\"crv\" must be P-256".into());
    }
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    if x.len() != 32 || y.len() != 32 || ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).is_err() {
        return Err("\"x\" and \"y\" are no point of the curve".into());
    }
    Ok(DecodingKey::from_ec_der(&point))
}

fn ed25519(jwk: &Map<String, Value>) -> Result<DecodingKey, String> {
    if jwk.get("crv").is_none_or(|curve| curve != "Ed25519") {
        return Err("\"crv\" must be Ed25519".into());
    }
    let x = bytes(jwk, "x")?;
    if x.len() != 32 || ParsedPublicKey::new(&ED25519, &x).is_err() {
        return Err("\"x\" is no point of the curve".into());
    }
    Ok(DecodingKey::from_ed_der(&x))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    /// From RFC 8037, appendix A.2, and RFC 7517, appendix A.1.
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

    fn one(members: &str) -> Result<Vec<Key>, String> {
        parse(&format!("{{\"keys\":[{{{members}}}]}}"))
    }

    #[track_caller]
    fn refused(members: &str, part: &str) {
        let fault = one(members).err().unwrap_or_default();
        assert!(fault.contains(part), "{members}\n{fault:?}");
    }

    #[test]
    fn each_type_stands_for_one_algorithm() {
        for (members, algorithm) in [
            (format!(r#""kty":"oct","k":"{SECRET}","alg":"HS256""#), Algorithm::HS256),
            (format!(r#""kty":"OKP","crv":"Ed25519","x":"{ED}","use":"sig""#), Algorithm::EdDSA),
            (format!(r#""kty":"EC","crv":"P-256","x":"{X}","y":"{Y}","key_ops":["verify"]"#), Algorithm::ES256),
        ] {
            let keys = one(&members).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(keys.iter().map(|key| key.algorithm).collect::<Vec<_>>(), [algorithm]);
        }
    }

    #[test]
    fn an_empty_set_has_no_key() {
        for text in ["", "  ", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA","use":"enc","kid":"e"}]}"#] {
            assert_eq!(parse(text).map(|keys| keys.len()), Ok(0), "{text}");
        }
        for text in ["x", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"kty":"oct"}"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bad_keys_are_refused_with_the_fault() {
        refused(r#""kty":"oct","k":"AAAA","kid":"weak""#, "key \"weak\": a symmetric key needs at least 32 bytes");
        refused(&format!(r#""kty":"oct","k":"{SECRET}=""#), "base64url");
        refused(&format!(r#""kty":"oct","k":"{SECRET}","alg":"RS256""#), "\"alg\" must be HS256");
        refused(&format!(r#""kty":"OKP","crv":"Ed25519","x":"{ED}","d":"{ED}""#), "private key");
        refused(&format!(r#""kty":"OKP","crv":"X25519","x":"{ED}""#), "Ed25519");
        refused(&format!(r#""kty":"OKP","crv":"Ed25519","x":"{ED}","use":"other""#), "\"use\"");
        refused(&format!(r#""kty":"OKP","crv":"Ed25519","x":"{ED}","key_ops":["sign"]"#), "key_ops");
        refused(&format!(r#""kty":"OKP","crv":"Ed25519","x":"{ED}","kid":7"#), "kid");
        refused(&format!(r#""kty":"EC","crv":"P-256","x":"{X}","y":"{X}""#), "no point");
        refused(&format!(r#""kty":"EC","crv":"P-384","x":"{X}","y":"{Y}""#), "P-256");
        refused(r#""kty":"RSA","n":"AQAB","e":"AQAB""#, "2048");
        refused(r#""kty":"RSA","n":"AQAB""#, "\"e\" is missing");
        refused(r#""kty":"other""#, "kty");
        refused("", "kty");
    }

    #[test]
    fn an_rsa_exponent_is_odd_and_at_least_3() {
        let n = URL_SAFE_NO_PAD.encode([0xff; 256]);
        for (e, good) in [("AQAB", true), ("Aw", true), ("AQ", false), ("Ag", false), ("", false), ("AAED", false)] {
            assert_eq!(one(&format!(r#""kty":"RSA","n":"{n}","e":"{e}""#)).is_ok(), good, "{e}");
        }
        let small = URL_SAFE_NO_PAD.encode([0x7f; 256].iter().map(|b| b | 1).collect::<Vec<u8>>());
        refused(&format!(r#""kty":"RSA","n":"{small}","e":"AQAB""#), "this one has 2047");
    }

    #[test]
    fn a_kid_comes_once() {
        let key = |kid: &str| format!(r#"{{"kty":"oct","k":"{SECRET}"{kid}}}"#);
        let set = |a: &str, b: &str| parse(&format!(r#"{{"keys":[{},{}]}}"#, key(a), key(b)));
        assert!(set(r#","kid":"a""#, r#","kid":"b""#).is_ok() && set("", r#","kid":"b""#).is_ok());
        assert!(set(r#","kid":"a""#, r#","kid":"a""#).is_err() && set("", "").is_err());
    }
}
