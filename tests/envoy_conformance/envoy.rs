//! A real Envoy with one listener per case.
//!
//! A listener's filters are the golden ones; around them stands what Istio puts there: PROXY protocol
//! (which sets the remote and the local address) and the TLS inspector as listener filters, mutual TLS
//! beside plaintext, `jwt_authn` with `allow_missing` and the payload in the metadata. Behind them an
//! answer: 200 for HTTP, an echo for TCP. External authorizers have clusters without endpoints and
//! refuse whatever they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use castoff_authz::path::TokenRule;
use castoff_authz::policy::Key;
use serde_json::{Map, Value, json};

use crate::cases::Case;
use crate::identity::{Authority, TOKEN_KEYS};

/// The process, ended when dropped.
pub(crate) struct Envoy {
    process: Child,
    ports: BTreeMap<String, u16>,
    _folder: tempfile::TempDir,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Envoy {
    pub(crate) fn port(&self, case: &str) -> u16 {
        self.ports[case]
    }

    pub(crate) fn start(binary: &Path, cases: &[Case], authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("envoy.json");
        let admin = folder.path().join("admin");
        let log = folder.path().join("log");
        std::fs::write(&config, configuration(cases, authority).to_string()).unwrap();
        let process = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin)
            .arg("--log-path")
            .arg(&log)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut envoy = Self {
            process,
            ports: BTreeMap::new(),
            _folder: folder,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while envoy.ports.len() < cases.len() {
            let logged = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "Envoy is not ready: {}",
                logged()
            );
            let ended = envoy.process.try_wait().unwrap();
            assert!(ended.is_none(), "Envoy ended: {}", logged());
            std::thread::sleep(Duration::from_millis(50));
            let Ok(address) = std::fs::read_to_string(&admin) else {
                continue;
            };
            let Ok(address) = address.parse() else {
                continue;
            };
            let Some(listeners) = get(address, "/listeners?format=json") else {
                continue;
            };
            let Ok(listeners) = serde_json::from_str::<Value>(&listeners) else {
                continue;
            };
            for one in listeners["listener_statuses"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let port = one["local_address"]["socket_address"]["port_value"].as_u64();
                let name = one["name"].as_str().unwrap().to_owned();
                envoy
                    .ports
                    .insert(name, u16::try_from(port.unwrap()).unwrap());
            }
        }
        envoy
    }
}

/// The body of an admin page, which comes in chunks.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let mut rest = text.split_once("\r\n\r\n")?.1;
    let mut body = String::new();
    loop {
        let (size, chunk) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(chunk.get(..size)?);
        rest = chunk.get(size + 2..)?;
    }
}

fn configuration(cases: &[Case], authority: &Authority) -> Value {
    let mut clusters = BTreeSet::new();
    let listeners: Vec<Value> = cases
        .iter()
        .map(|case| {
            case.filters
                .iter()
                .for_each(|filter| named_clusters(filter, &mut clusters));
            listener(case, authority)
        })
        .collect();
    let clusters: Vec<Value> = clusters
        .into_iter()
        .map(|name| json!({"name": name, "type": "STATIC", "connect_timeout": "1s"}))
        .collect();
    json!({
        "admin": {"address": address(0)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn named_clusters(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| named_clusters(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(cluster) if name == "cluster" || name == "clusterName" => {
                        found.insert(cluster.to_owned());
                    }
                    _ => named_clusters(value, found),
                }
            }
        }
        _ => {}
    }
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn extension(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
    json!({"name": name, "typed_config": config})
}

fn listener(case: &Case, authority: &Authority) -> Value {
    let filters = if case.tcp {
        let echo = extension("echo", "filters.network.echo.v3.Echo", json!({}));
        Value::from_iter(case.filters.iter().cloned().chain([echo]))
    } else {
        json!([connection_manager(case, authority)])
    };
    json!({
        "name": case.name,
        "address": address(0),
        "listener_filters": [
            extension("proxy", "filters.listener.proxy_protocol.v3.ProxyProtocol", json!({})),
            extension("tls", "filters.listener.tls_inspector.v3.TlsInspector", json!({})),
        ],
        "filter_chains": [
            {
                "name": "tls",
                "filter_chain_match": {"transport_protocol": "tls"},
                "transport_socket": {"name": "tls", "typed_config": authority.server_context()},
                "filters": filters,
            },
            {
                "name": "plaintext",
                "filter_chain_match": {"transport_protocol": "raw_buffer"},
                "filters": filters,
            },
        ],
    })
}

/// `use_remote_address: false` and no trusted hops, as istiod sets a sidecar's inbound side
/// (`pilot/pkg/networking/core/listener_inbound.go`); `normalize_path` as by default
/// (`listener_builder.go`).
fn connection_manager(case: &Case, authority: &Authority) -> Value {
    let tokens = token_filter(case, authority);
    let custom = case.settings.authorizers.iter().len() > 0;
    let mut filters = vec![tokens, metadata(case)];
    // CUSTOM stands before the token validation (`listener_builder.go:buildHTTPConnectionManager`).
    let place = if custom { 0 } else { filters.len() };
    filters.splice(place..place, case.filters.iter().cloned());
    filters.push(extension(
        "router",
        "filters.http.router.v3.Router",
        json!({}),
    ));
    // Tells what the request still carries behind the filters.
    let token = json!({"header": {"key": TOKEN_HEADER, "value": "%REQ(authorization)%"}});
    let route = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "response_headers_to_add": [token],
    });
    extension(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "http",
            "codec_type": "HTTP1",
            "http_protocol_options": {"allow_custom_methods": true},
            "use_remote_address": false,
            "normalize_path": true,
            "http_filters": filters,
            "route_config": {"virtual_hosts": [{
                "name": "all", "domains": ["*"], "routes": [route],
            }]},
        }),
    )
}

/// `pilot/pkg/security/authn/policy_applier.go:convertToEnvoyJwtConfig`: rules sorted by issuer, any of
/// them, or, for each, it or no token.
fn token_filter(case: &Case, authority: &Authority) -> Value {
    let any = |list: Vec<Value>| json!({"requires_any": {"requirements": list}});
    let provider = |key: &str, forward: bool| {
        json!({
            "payload_in_metadata": "payload",
            "normalize_payload_in_metadata": {"space_delimited_claims": ["permission", "scope"]},
            "forward": forward,
            "local_jwks": {"inline_string": authority.jwks(key)},
        })
    };
    let mut rules: Vec<&TokenRule> = case.token_rules.iter().collect();
    rules.sort_by_key(|rule| &rule.issuer);
    let mut providers = Map::new();
    for (index, rule) in rules.into_iter().enumerate() {
        let mut provider = provider(&rule.validation, rule.forward);
        provider["issuer"] = rule.issuer.as_str().into();
        provider["audiences"] = rule.audiences.clone().into();
        providers.insert(format!("origins-{index}"), provider);
    }
    if providers.is_empty() {
        providers.insert("any-issuer".to_owned(), provider(TOKEN_KEYS[0], true));
    }
    let mut each: Vec<Value> = Vec::new();
    let mut valid_or_missing: Vec<Value> = Vec::new();
    for name in providers.keys() {
        each.push(json!({"provider_name": name}));
        valid_or_missing.push(any(vec![
            json!({"provider_name": name}),
            json!({"allow_missing": {}}),
        ]));
    }
    let requires = if valid_or_missing.len() == 1 {
        valid_or_missing.remove(0)
    } else {
        each.push(json!({"requires_all": {"requirements": valid_or_missing}}));
        any(each)
    };
    extension(
        "envoy.filters.http.jwt_authn",
        "filters.http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": providers,
            "rules": [{"match": {"prefix": "/"}, "requires": requires}],
            "bypass_cors_preflight": true,
        }),
    )
}

/// The header of a response that tells which `authorization` came through the filters.
pub(crate) const TOKEN_HEADER: &str = "x-test-token";

/// The header that carries the metadata of `experimental.envoy.filters.FILTER[KEY]`.
pub(crate) const METADATA_HEADER: &str = "x-test-metadata";

/// Filter and key of the experimental condition of a case; the goldens have one at most.
pub(crate) fn experimental(case: &Case) -> Option<(String, String)> {
    let rules = case.policies.iter().flat_map(|policy| &policy.rules);
    let mut found: BTreeSet<(String, String)> = BTreeSet::new();
    for condition in rules.flat_map(|rule| &rule.when) {
        if let Key::Experimental(text) = &condition.key {
            let text = text.strip_prefix("experimental.").unwrap();
            let (filter, key) = text.split_once('[').unwrap();
            found.insert((filter.to_owned(), key.trim_end_matches(']').to_owned()));
        }
    }
    assert!(found.len() <= 1, "{}: several metadata", case.name);
    found.pop_first()
}

fn metadata(case: &Case) -> Value {
    let (filter, key) = experimental(case).unwrap_or_default();
    let rules = if filter.is_empty() {
        json!([])
    } else {
        json!([{
            "header": METADATA_HEADER,
            "on_header_present": {"metadata_namespace": filter, "key": key, "type": "STRING"},
        }])
    };
    extension(
        "metadata",
        "filters.http.header_to_metadata.v3.Config",
        json!({"request_rules": rules}),
    )
}
