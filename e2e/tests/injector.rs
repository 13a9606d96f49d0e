//! Stands in for istiod's injector: an HTTPS server that the API server calls for every new pod.
//!
//! It adds what castoff reads of a sidecar. Whether it is called at all is decided by the API
//! server, by the selectors of the mesh's own MutatingWebhookConfiguration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

pub(crate) struct Injector {
    /// `https://127.0.0.1:PORT/inject`.
    pub(crate) url: String,
    /// Base64 of the certificate, as `caBundle` takes it.
    pub(crate) authority: String,
}

impl Injector {
    /// Starts it; it ends with the process.
    pub(crate) fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let authority = STANDARD.encode(certificate.pem());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/inject", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                std::thread::spawn(move || serve(StreamOwned::new(connection, stream)));
            }
        });
        Self { url, authority }
    }
}

/// Answers requests until the API server hangs up.
fn serve(stream: impl Read + Write) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let answer = review(&serde_json::from_slice(&body).ok()?).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let out = stream.get_mut();
        out.write_all(head.as_bytes()).ok()?;
        out.write_all(answer.as_bytes()).ok()?;
        out.flush().ok()?;
    }
}

fn review(request: &Value) -> Value {
    let pod = &request["request"]["object"];
    let mut patch = Vec::new();
    for field in ["labels", "annotations"] {
        if pod["metadata"][field].is_null() {
            patch.push(json!({"op": "add", "path": format!("/metadata/{field}"), "value": {}}));
        }
    }
    for (path, value) in [
        ("labels/security.istio.io~1tlsMode", "istio"),
        ("labels/networking.istio.io~1tunnel", "http"),
        ("annotations/sidecar.istio.io~1status", "{}"),
    ] {
        patch.push(json!({"op": "add", "path": format!("/metadata/{path}"), "value": value}));
    }
    patch.push(json!({"op": "add", "path": "/spec/containers/-", "value": {
        "name": "istio-proxy",
        "image": "docker.io/istio/proxyv2:1.30.3",
        "args": ["proxy", "sidecar"],
        "env": [{"name": "ISTIO_META_ENABLE_HBONE", "value": "true"}],
    }}));
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": request["request"]["uid"],
            "allowed": true,
            "patchType": "JSONPatch",
            "patch": STANDARD.encode(Value::from(patch).to_string()),
        },
    })
}
