//! Signed tokens: what makes a JWT count, and what it says.
//!
//! Pure Rust. `verify` proves a token against keys and requirements; what depends on the time is asked again whenever it
//! is used (`Verified::at`). The order of the checks is the order of trust: nothing of the payload is read before the signature holds.

pub mod cache;
pub mod fault;
mod json;
pub mod jwks;
pub mod path;

use std::cell::OnceCell;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, crypto};
use serde_json::{Map, Value};

use super::tenant::{self, Tenant};
pub use fault::Fault;
use jwks::Key;
use path::Path;

/// Longest token in bytes.
pub const MAX_BYTES: usize = 16 * 1024;

/// Whether a value of the setting is meant as a token: a JWT's header is a JSON object, so its base64 begins with `eyJ`.
pub fn is_token(value: &[u8]) -> bool {
    value.starts_with(b"eyJ") && value.contains(&b'.')
}

/// What the settings ask of a token.
pub struct TokenRequirements {
    pub keys: Vec<Key>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// Seconds by which the issuer's clock may be ahead, for `nbf`.
    pub leeway: u32,
    pub tenant: Path,
    pub roles: Path,
    pub permissions: Path,
    /// The database's encoding is not UTF8, so that only ASCII means the same in both.
    pub ascii_only: bool,
}

/// What a verified token says.
pub struct Verified {
    pub tenant: Tenant,
    pub kid: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `exp` and `nbf` in microseconds since 1970; `nbf` with the leeway taken off.
    pub expires: i64,
    pub not_before: i64,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    /// The payload as JSON, and as the server stores it once somebody has asked.
    pub claims: String,
    pub jsonb: OnceCell<Box<[u8]>>,
}

impl Default for Verified {
    fn default() -> Verified {
        Verified {
            tenant: Tenant::NONE,
            kid: None,
            subject: None,
            expires: i64::MAX,
            not_before: i64::MIN,
            roles: Vec::new(),
            permissions: Vec::new(),
            claims: "{}".to_owned(),
            jsonb: OnceCell::new(),
        }
    }
}

impl Verified {
    /// Whether it counts for a transaction that began at `start`, on a clock that says `now`; microseconds since 1970.
    pub fn check_time(&self, start: i64, now: i64) -> Result<(), Fault> {
        if start >= self.expires {
            Err(Fault::Expired)
        } else if now < self.not_before {
            Err(Fault::NotYetValid)
        } else {
            Ok(())
        }
    }
}

/// Proves a token, except for what depends on the time.
pub fn verify(token: &[u8], requirements: &TokenRequirements) -> Result<Verified, Fault> {
    if token.len() > MAX_BYTES {
        return Err(Fault::TooLarge(token.len()));
    }
    let token = std::str::from_utf8(token).map_err(|_| Fault::NotAJwt("it is not ASCII"))?;
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::NotAJwt("three parts separated by dots are needed"));
    };
    let key = key_of(header, &requirements.keys)?;
    // The library's own decoder may be laxer; what is not canonical has no second spelling here.
    decode(signature, "signature is not base64url without padding")?;
    let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
    if signature.is_empty() || !crypto::verify(signature, signed, &key.key, key.algorithm).unwrap_or(false) {
        return Err(Fault::BadSignature);
    }
    let payload = decode(payload, "payload is not base64url without padding")?;
    let claims = object(&payload, "payload", "payload is not a JSON object")?;
    judge(claims, key, requirements)
}

fn decode(part: &str, fault: &'static str) -> Result<Vec<u8>, Fault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::NotAJwt(fault))
}

fn object(bytes: &[u8], part: &'static str, fault: &'static str) -> Result<Value, Fault> {
    match json::parse(bytes) {
        Ok(value) if value.is_object() => Ok(value),
        Err(json::Fault::Duplicate) => Err(Fault::Duplicate(part)),
        Err(json::Fault::Nul) => Err(Fault::Nul),
        _ => Err(Fault::NotAJwt(fault)),
    }
}

/// The key that the header asks for, if the header is one that we understand.
fn key_of<'a>(header: &str, keys: &'a [Key]) -> Result<&'a Key, Fault> {
    let header = decode(header, "header is not base64url without padding")?;
    let header = object(&header, "header", "header is not a JSON object")?;
    if header.get("crit").is_some() {
        return Err(Fault::CriticalHeader);
    }
    let algorithm = match header.get("alg").and_then(Value::as_str) {
        Some("HS256") => Algorithm::HS256,
        Some("RS256") => Algorithm::RS256,
        Some("ES256") => Algorithm::ES256,
        Some("EdDSA") => Algorithm::EdDSA,
        _ => return Err(Fault::NotAllowed),
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid),
        Some(_) => return Err(Fault::WrongType("kid")),
    };
    let missing = match kid {
        _ if keys.is_empty() => Fault::NoKeys,
        None => Fault::NoKid,
        Some(_) => Fault::UnknownKid,
    };
    let key = keys.iter().find(|key| key.kid.as_ref() == kid).ok_or(missing)?;
    if key.algorithm == algorithm { Ok(key) } else { Err(Fault::NotAllowedForKey) }
}

/// The claims of a token whose signature holds.
fn judge(claims: Value, key: &Key, requirements: &TokenRequirements) -> Result<Verified, Fault> {
    let Some(members) = claims.as_object() else { return Err(Fault::NotAJwt("payload is not a JSON object")) };
    let expires = seconds(members, "exp")?.ok_or(Fault::NoExpiry)?;
    let not_before = seconds(members, "nbf")?;
    check_issuer(members, requirements)?;
    check_audience(members, requirements)?;
    let text = claims.to_string();
    if requirements.ascii_only && !text.is_ascii() {
        return Err(Fault::NotAscii);
    }
    let (tenant, id) = tenant_of(&claims, &requirements.tenant)?;
    let leeway = i64::from(requirements.leeway) * MICROSECONDS;
    Ok(Verified {
        tenant,
        kid: key.kid.clone(),
        subject: match members.get("sub") {
            Some(Value::String(subject)) => Some(subject.clone()),
            Some(Value::Number(number)) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        },
        expires,
        not_before: not_before.map_or(i64::MIN, |time| time.saturating_sub(leeway)),
        roles: path::names(requirements.roles.find_for(&claims, &id)),
        permissions: path::names(requirements.permissions.find_for(&claims, &id)),
        claims: text,
        jsonb: OnceCell::new(),
    })
}

const MICROSECONDS: i64 = 1_000_000;

/// A NumericDate (RFC 7519, 2), in microseconds.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, Fault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => Ok(Some(match number.as_i64() {
            Some(whole) => whole.saturating_mul(MICROSECONDS),
            // The cast saturates: a date beyond all dates stays one.
            None => number.as_f64().map_or(0, |seconds| (seconds * MICROSECONDS as f64) as i64),
        })),
        Some(_) => Err(Fault::WrongType(name)),
    }
}

fn check_issuer(claims: &Map<String, Value>, requirements: &TokenRequirements) -> Result<(), Fault> {
    let Some(wanted) = &requirements.issuer else { return Ok(()) };
    match claims.get("iss") {
        Some(Value::String(issuer)) if issuer == wanted => Ok(()),
        None | Some(Value::String(_)) => Err(Fault::WrongIssuer),
        Some(_) => Err(Fault::WrongType("iss")),
    }
}

fn check_audience(claims: &Map<String, Value>, requirements: &TokenRequirements) -> Result<(), Fault> {
    let Some(wanted) = &requirements.audience else { return Ok(()) };
    let found = match claims.get("aud") {
        None => false,
        Some(Value::String(audience)) => audience == wanted,
        Some(Value::Array(all)) if all.iter().all(Value::is_string) => all.iter().any(|one| one == wanted.as_str()),
        Some(_) => return Err(Fault::WrongType("aud")),
    };
    if found { Ok(()) } else { Err(Fault::WrongAudience) }
}

/// The tenant, and its id as text.
fn tenant_of(claims: &Value, path: &Path) -> Result<(Tenant, String), Fault> {
    let name = || path.as_str().to_owned();
    let id = match path.find(claims) {
        None | Some(Value::Null) => return Err(Fault::NoTenant(name())),
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
        Some(_) => return Err(Fault::TenantType(name())),
    };
    let mut bytes = id.into_bytes();
    let tenant = Tenant::parse(&mut bytes).map_err(|fault| {
        let what = match fault {
            tenant::Fault::TooLong(_) => "is too long for a tenant id",
            tenant::Fault::Control(_) => "contains a control character",
        };
        Fault::TenantId(name(), what)
    })?;
    if tenant.is_none() {
        return Err(Fault::TenantId(name(), "is empty"));
    }
    Ok((tenant, String::from_utf8(bytes).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
