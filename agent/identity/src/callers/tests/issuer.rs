//! An issuer for tests: real keys, tokens signed by AWS-LC, and an HTTP server with a script.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::callers::clock::Clock;
use crate::callers::{IssuerConfig, Issuers};

/// The audience that tests are.
pub const AUDIENCE: &str = "gate";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs.
pub struct Signer {
    pub kid: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub fn rsa(kid: &str) -> Self {
        Self { kid: kid.into(), pair: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    pub fn ec(kid: &str) -> Self {
        Self { kid: kid.into(), pair: Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()) }
    }

    pub fn ed(kid: &str) -> Self {
        Self { kid: kid.into(), pair: Pair::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
            Pair::Ed(_) => "EdDSA",
        }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": b64(public.n), "e": b64(public.e) })
            }
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public key as the forms that alg confusion takes for a secret.
    pub fn public_forms(&self) -> Vec<Vec<u8>> {
        let mut forms = vec![self.jwk().to_string().into_bytes()];
        if let Pair::Rsa(pair) = &self.pair {
            let der = pair.public_key().as_der().unwrap().as_ref().to_vec();
            forms.push(pem_encoder::encode(&pem_encoder::Pem::new("PUBLIC KEY", der.clone())).into_bytes());
            forms.push(der);
            forms.push(pair.public_key().as_ref().to_vec());
        }
        forms
    }

    /// Signs whatever it is given.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of these JSON texts, signed as they are.
    pub fn raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        format!("{message}.{}", b64(self.sign(message.as_bytes())))
    }

    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" })
    }

    /// A token of `claims` with a plain header.
    pub fn token(&self, claims: &Value) -> String {
        self.raw(&self.header().to_string(), &claims.to_string())
    }
}

/// Claims that hold.
pub fn claims(iss: &str) -> Value {
    json!({ "iss": iss, "sub": "ada", "aud": AUDIENCE, "iat": now(), "exp": now() + 3600, "groups": ["ops", "dev"] })
}

/// What the server answers at a path.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn ok(body: impl ToString) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_string() }
    }

    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A server on loopback; what it answers may be changed at any time. Ends with its runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Script>,
    is_tls: bool,
}

#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<String, Answer>>,
    asked: AtomicUsize,
    /// While it is locked, no answer goes out.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Server {
    pub async fn plain() -> Self {
        Self::start(None).await
    }

    pub async fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::start(Some(config.into())).await
    }

    async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, script: Arc::default(), is_tls: acceptor.is_some() };
        let script = server.script.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (script, acceptor) = (script.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(tcp, script).await,
                        Some(acceptor) => {
                            if let Ok(tls) = acceptor.accept(tcp).await {
                                serve(tls, script).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    pub fn answers(&self, path: &str, answer: Answer) {
        self.script.answers.lock().unwrap().insert(path.into(), answer);
    }

    pub fn publishes(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
        self.answers("/jwks", Answer::ok(json!({ "keys": keys })));
    }

    /// How many requests came.
    pub fn asked(&self) -> usize {
        self.script.asked.load(SeqCst)
    }

    /// Holds back all answers until the guard is dropped.
    pub async fn hold(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.script.gate.clone().lock_owned().await
    }

    /// Settings that fit this server, keys at `/jwks`.
    pub fn config(&self) -> IssuerConfig {
        let text = format!(
            "issuer = \"{0}\"\njwks_uri = \"{0}/jwks\"\naudience = [\"{AUDIENCE}\"]\nalgorithms = [\"RS256\", \"ES256\", \"EdDSA\"]\n",
            self.url()
        );
        toml::from_str(&text).unwrap()
    }
}

async fn serve(io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, script: Arc<Script>) {
    let answer = |request: Request<Incoming>| {
        let script = script.clone();
        async move {
            script.asked.fetch_add(1, SeqCst);
            let _open = script.gate.lock().await;
            let answer = script.answers.lock().unwrap().get(request.uri().path()).cloned();
            let answer = answer.unwrap_or(Answer::status(404));
            let mut response = Response::builder().status(answer.status);
            for (name, value) in answer.headers {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer.body))).unwrap())
        }
    };
    // A client that hangs up in the middle is no fault of the server's.
    let _ended =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service_fn(answer)).await;
}

/// Issuers of these settings, and their clock.
pub fn issuers(configs: &[IssuerConfig]) -> (Issuers, Clock) {
    let clock = Clock::new();
    (Issuers::with_clock(configs, clock.clone()).unwrap(), clock)
}
