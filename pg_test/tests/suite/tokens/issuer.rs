//! Somebody who signs tokens, with keys made at run time. It signs whatever header and payload it is told to.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub enum Pair {
    Hs(Vec<u8>),
    Rs(Box<RsaKeyPair>),
    Es(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub struct Issuer {
    pub kid: Option<String>,
    pub pair: Pair,
}

impl Issuer {
    fn new(kid: &str, pair: Pair) -> Issuer {
        Issuer { kid: Some(kid.to_owned()), pair }
    }
    pub fn hs(kid: &str) -> Issuer {
        let mut secret = vec![0; 32];
        rand::fill(&mut secret).unwrap();
        Issuer::new(kid, Pair::Hs(secret))
    }
    pub fn rs(kid: &str) -> Issuer {
        Issuer::new(kid, Pair::Rs(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())))
    }
    pub fn es(kid: &str) -> Issuer {
        Issuer::new(kid, Pair::Es(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()))
    }
    pub fn ed(kid: &str) -> Issuer {
        Issuer::new(kid, Pair::Ed(Ed25519KeyPair::generate().unwrap()))
    }
    pub fn without_kid(mut self) -> Issuer {
        self.kid = None;
        self
    }

    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Hs(_) => "HS256",
            Pair::Rs(_) => "RS256",
            Pair::Es(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    /// The public half, or the secret.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Hs(secret) => json!({"kty": "oct", "k": b64(secret)}),
            Pair::Rs(pair) => {
                let key = pair.public_key();
                json!({"kty": "RSA", "n": b64(key.modulus().big_endian_without_leading_zero()),
                       "e": b64(key.exponent().big_endian_without_leading_zero())})
            }
            Pair::Es(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}),
        };
        jwk["alg"] = json!(self.algorithm());
        if let Some(kid) = &self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    pub fn header(&self) -> Value {
        let mut header = json!({"typ": "JWT", "alg": self.algorithm()});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        header
    }

    pub fn sign(&self, payload: &Value) -> String {
        self.sign_text(&self.header().to_string(), &payload.to_string())
    }

    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(payload));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Hs(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            Pair::Rs(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::Es(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", b64(signature))
    }

    /// A token of this tenant that lasts.
    pub fn token(&self, tenant: &str) -> String {
        self.sign(&json!({"tenant_id": tenant, "exp": now() + 3600, "sub": "user-1"}))
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

pub fn jwks(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()}).to_string()
}
