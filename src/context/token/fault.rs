//! Why a token does not count, in words that say which check failed and never repeat any of the token.

/// The check that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Longer than `MAX_BYTES`.
    TooLarge(usize),
    /// What is wrong with its form.
    NotAJwt(&'static str),
    /// A member that comes twice in the part named.
    Duplicate(&'static str),
    CriticalHeader,
    NotAllowed,
    NotAllowedForKey,
    NoKeys,
    NoKid,
    UnknownKid,
    BadSignature,
    NoExpiry,
    /// A claim that is no number, or no string.
    WrongType(&'static str),
    Expired,
    NotYetValid,
    WrongIssuer,
    WrongAudience,
    /// The claim that should hold the tenant, by the name that the settings give it.
    NoTenant(String),
    TenantType(String),
    TenantId(String, &'static str),
    Nul,
    NotAscii,
    /// No token at all, where only tokens count.
    Unsigned,
}

impl Fault {
    /// What follows "invalid tenant token: ".
    pub fn message(&self) -> String {
        match self {
            Fault::TooLarge(bytes) => {
                format!("too large ({bytes} bytes, at most {} are allowed)", super::MAX_BYTES)
            }
            Fault::NotAJwt(what) => format!("not a JWT ({what})"),
            Fault::Duplicate(part) => format!("duplicate member in the {part}"),
            Fault::CriticalHeader => "critical header not understood".into(),
            Fault::NotAllowed => "algorithm not allowed".into(),
            Fault::NotAllowedForKey => "algorithm not allowed for the key".into(),
            Fault::NoKeys => "bulkhead.jwks holds no key".into(),
            Fault::NoKid => "no kid, and every key in bulkhead.jwks has one".into(),
            Fault::UnknownKid => "unknown kid".into(),
            Fault::BadSignature => "bad signature".into(),
            Fault::NoExpiry => "no exp".into(),
            Fault::WrongType(claim) => format!("wrong type of \"{claim}\""),
            Fault::Expired => "expired".into(),
            Fault::NotYetValid => "not yet valid".into(),
            Fault::WrongIssuer => "wrong issuer".into(),
            Fault::WrongAudience => "wrong audience".into(),
            Fault::NoTenant(claim) => format!("no claim \"{claim}\""),
            Fault::TenantType(claim) => format!("claim \"{claim}\" is neither a string nor an integer"),
            Fault::TenantId(claim, what) => format!("claim \"{claim}\" {what}"),
            Fault::Nul => "a claim contains a NUL character".into(),
            Fault::NotAscii => "a claim is not ASCII, and the encoding of this database is not UTF8".into(),
            Fault::Unsigned => "not a JWT".into(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Fault::TooLarge(_) => "Leave claims out that the database does not need.",
            Fault::NotAJwt(_) | Fault::Nul => {
                "Send the token as it was issued: three parts of base64url without padding, separated by dots."
            }
            Fault::Duplicate(_) => "A member that comes twice means one thing to one reader and another to the next.",
            Fault::CriticalHeader => "Issue tokens without a \"crit\" header.",
            Fault::NotAllowed => "HS256, RS256, ES256 and EdDSA are allowed.",
            Fault::NotAllowedForKey => "Sign with the algorithm that the key in bulkhead.jwks is for.",
            Fault::NoKeys => "A superuser puts the issuer's JWK Set into bulkhead.jwks.",
            Fault::NoKid | Fault::UnknownKid => {
                "Get a new token; if its key is new too, a superuser adds the key to bulkhead.jwks."
            }
            Fault::BadSignature => "The token was changed, or signed with another key than the one in bulkhead.jwks.",
            Fault::NoExpiry => "Issue tokens with an \"exp\" claim.",
            Fault::WrongType(_) => {
                "\"exp\" and \"nbf\" are numbers of seconds, \"iss\" is a string, \"aud\" a string or an array of strings."
            }
            Fault::Expired => "Get a new token from the issuer.",
            Fault::NotYetValid => {
                "Look at the clocks of the issuer and of this server; bulkhead.jwt_leeway allows for a difference."
            }
            Fault::WrongIssuer => "bulkhead.jwt_issuer says whose tokens count.",
            Fault::WrongAudience => "bulkhead.jwt_audience says for whom a token must be.",
            Fault::NoTenant(_) | Fault::TenantType(_) | Fault::TenantId(..) => {
                "bulkhead.tenant_claim is the path of the claim that holds the tenant id."
            }
            Fault::NotAscii => "Use a database with encoding UTF8, or ASCII claims.",
            Fault::Unsigned => "Send a token that is signed with a key of bulkhead.jwks; '' clears the context.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_hints_are_ascii() {
        for fault in [Fault::TooLarge(1), Fault::NotAJwt("x"), Fault::NoExpiry, Fault::NotAscii, Fault::Unsigned] {
            assert!(fault.message().is_ascii() && fault.hint().is_ascii() && !fault.message().is_empty());
        }
    }
}
