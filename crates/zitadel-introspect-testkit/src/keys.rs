//! Keys and signatures: made at run time, never shipped.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// The algorithms that ZITADEL can sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA with SHA-256, ZITADEL's default.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// ECDSA on P-521.
    Es512,
    /// Ed25519.
    EdDsa,
}

/// A private key that signs JWTs.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pair: Arc<Pair>,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// A new key. An RSA key takes long to make: it comes from the process's pool, by number.
    pub(crate) fn new(id: String, algorithm: Algorithm, number: usize) -> Self {
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            Pair::Ec(EcdsaKeyPair::generate(algorithm).expect("making an EC key needs memory only"))
        };
        let pair = match algorithm {
            Algorithm::Rs256 => return Self { id, algorithm, pair: pooled_rsa(number) },
            Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => {
                Pair::Ed(Ed25519KeyPair::generate().expect("making an Ed25519 key needs memory only"))
            }
        };
        Self { id, algorithm, pair: Arc::new(pair) }
    }

    /// A compact JWS over the claims, with the header that ZITADEL writes.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm.name(), "kid": self.id, "typ": "JWT"});
        self.sign_parts(&header, claims)
    }

    /// A compact JWS with any header.
    pub(crate) fn sign_parts(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signature(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The public half as a member of a JWKS.
    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &*self.pair {
            Pair::Rsa(pair) => {
                let (n, e) = rsa_public(pair);
                json!({"kty": "RSA", "n": encode(&n), "e": encode(&e)})
            }
            Pair::Ec(pair) => {
                // An uncompressed point: 4, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                json!({"kty": "EC", "crv": self.algorithm.curve(), "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = self.id.clone().into();
        jwk["alg"] = self.algorithm.name().into();
        jwk
    }

    /// The private key as ZITADEL offers it for download: PKCS#1 in PEM.
    pub(crate) fn pkcs1_pem(&self) -> String {
        let Pair::Rsa(pair) = &*self.pair else { unreachable!("applications have RSA keys") };
        let pkcs8: Pkcs8V1Der<'static> = pair.as_der().expect("a key that was made can be written");
        // PKCS#8 is SEQUENCE { version, algorithm, OCTET STRING { PKCS#1 } }.
        let pkcs1 = der_members(der_members(pkcs8.as_ref())[0])[2];
        let text = STANDARD.encode(pkcs1);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let label = "RSA PRIVATE KEY";
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    /// Whether a signature is this key's: RS256, the only algorithm of client assertions.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Pair::Rsa(pair) = &*self.pair else { return false };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        key.verify(message, signature).is_ok()
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.expect("an RSA key that was made can sign");
                signature
            }
            Pair::Ec(pair) => {
                pair.sign(&random, message).expect("an EC key that was made can sign").as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    fn curve(self) -> &'static str {
        match self {
            Self::Es384 => "P-384",
            Self::Es512 => "P-521",
            _ => "P-256",
        }
    }
}

/// `at_hash`: the left half of the access token's SHA-256 (OpenID Connect Core 1.0 section 3.1.3.6).
pub(crate) fn at_hash(access_token: &str) -> String {
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, access_token.as_bytes()).as_ref()[..16])
}

/// Random text that nobody can guess.
pub(crate) fn random_text(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random).expect("the system has random bytes");
    URL_SAFE_NO_PAD.encode(random)
}

/// The `number`th RSA key of this process, made when first asked for.
fn pooled_rsa(number: usize) -> Arc<Pair> {
    static POOL: OnceLock<Mutex<Vec<Arc<Pair>>>> = OnceLock::new();
    let mut pool = POOL.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    while pool.len() <= number {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("making an RSA key needs memory only");
        pool.push(Arc::new(Pair::Rsa(pair)));
    }
    Arc::clone(&pool[number])
}

/// Modulus and exponent: SEQUENCE { INTEGER, INTEGER }, without the sign byte.
fn rsa_public(pair: &RsaKeyPair) -> (Vec<u8>, Vec<u8>) {
    let numbers = der_members(der_members(pair.public_key().as_ref())[0]);
    let unsigned = |number: &[u8]| number.strip_prefix(&[0]).unwrap_or(number).to_vec();
    (unsigned(numbers[0]), unsigned(numbers[1]))
}

/// The contents of the DER values that follow one another in `der`, which this process has written.
fn der_members(mut der: &[u8]) -> Vec<&[u8]> {
    let mut members = Vec::new();
    while let [_tag, length, rest @ ..] = der {
        let long = usize::from(length & 0x7f);
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            _ => (rest[..long].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), &rest[long..]),
        };
        members.push(&rest[..length]);
        der = &rest[length..];
    }
    members
}
