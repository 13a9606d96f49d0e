//! Certificates and tokens: an authority made for one run, client certificates with one URI SAN each,
//! and tokens signed by a key whose public half is in the filter's JWKS.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};

/// Names of the keys that sign tokens.
pub(crate) const TOKEN_KEYS: [&str; 2] = ["first", "second"];

/// What signs certificates and tokens.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    leaf_key: KeyPair,
    token_keys: [EcdsaKeyPair; 2],
    random: SystemRandom,
    configs: BTreeMap<(Option<String>, bool), Arc<ClientConfig>>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Apart from the leaves' own, or they would pass for self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let token_keys = TOKEN_KEYS.map(|_| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
        });
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            leaf_key: KeyPair::generate().unwrap(),
            token_keys,
            random,
            configs: BTreeMap::new(),
        }
    }

    fn leaf(&self, uri: &str) -> rcgen::Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.signed_by(&self.leaf_key, &self.issuer).unwrap()
    }

    /// `DownstreamTlsContext`: a client certificate is verified where one is shown.
    pub(crate) fn server_context(&self) -> Value {
        let certificate = self.leaf("spiffe://cluster.local/ns/foo/sa/httpbin").pem();
        json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": false,
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": {"inline_string": certificate},
                    "private_key": {"inline_string": self.leaf_key.serialize_pem()},
                }],
                "validation_context": {"trusted_ca": {"inline_string": self.certificate}},
            },
        })
    }

    /// How a client with this principal (without `spiffe://`) speaks TLS.
    pub(crate) fn client(&mut self, principal: Option<&str>, sni: bool) -> Arc<ClientConfig> {
        let key = (principal.map(str::to_owned), sni);
        if let Some(config) = self.configs.get(&key) {
            return Arc::clone(config);
        }
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer));
        let mut config = match principal {
            Some(principal) => {
                let certificate = self.leaf(&format!("spiffe://{principal}"));
                let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
                let chain = vec![certificate.der().clone()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from(key))
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = sni;
        config.resumption = rustls::client::Resumption::disabled();
        let config = Arc::new(config);
        self.configs.insert(key, Arc::clone(&config));
        config
    }

    /// The public half of a key for tokens.
    pub(crate) fn jwks(&self, key: &str) -> String {
        let point = &self.token_key(key).public_key().as_ref()[1..];
        let (x, y) = (base64(&point[..32]), base64(&point[32..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]}).to_string()
    }

    fn token_key(&self, name: &str) -> &EcdsaKeyPair {
        let index = TOKEN_KEYS.iter().position(|key| *key == name).unwrap();
        &self.token_keys[index]
    }

    pub(crate) fn sign(&self, key: &str, claims: &Value) -> String {
        let header = base64(br#"{"alg":"ES256","typ":"JWT"}"#);
        let text = format!("{header}.{}", base64(claims.to_string().as_bytes()));
        let signature = self.token_key(key).sign(&self.random, text.as_bytes());
        let signature = signature.unwrap();
        format!("{text}.{}", base64(signature.as_ref()))
    }
}

/// base64url without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes(group);
        for digit in 0..=chunk.len() {
            text.push(char::from(
                DIGITS[(number >> (18 - 6 * digit)) as usize & 63],
            ));
        }
    }
    text
}

/// The server under test is our own child process on loopback.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
