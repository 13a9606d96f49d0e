//! The golden cases: policies as castoff reads them beside the filters that istiod built from them.
//!
//! Two things are altered, alike on both sides. No method can have brackets on the wire, as some of the
//! goldens' have: they become dots. And Envoy takes `direct_remote_ip` from the socket alone, so
//! the blocks of `ipBlocks` and `source.ip` are moved into 127.0.0.0/8, where a client on loopback can
//! bind. The move maps each /16 to one of its own, so blocks of 16 bits and more keep their relations.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use castoff::mesh::authorization::translate;
use castoff::snapshot::Kind;
use castoff::source::read_files;
use castoff_authz::path::TokenRule;
use castoff_authz::policy::{Key, Policy};
use castoff_authz::settings::{Authorizer, Release, Settings};
use serde_json::Value;

/// One listener's worth.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) tcp: bool,
    pub(crate) policies: Vec<Arc<Policy>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) filters: Vec<Value>,
    /// The rules of RequestAuthentications, `validation` being the name of a key; none: every token
    /// with a good signature is accepted, whatever its issuer.
    pub(crate) token_rules: Vec<TokenRule>,
}

/// Where each /16 of a direct peer went.
#[derive(Default)]
pub(crate) struct Moved(BTreeMap<[u8; 2], u8>);

impl Moved {
    fn address(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        let [a, b, c, d] = address.octets();
        let next = u8::try_from(self.0.len() + 10).unwrap();
        let second = *self.0.entry([a, b]).or_insert(next);
        Ipv4Addr::new(127, second, c, d)
    }

    fn block(&mut self, text: &mut String) {
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        assert!(
            length.parse::<u8>().unwrap() >= 16,
            "`{text}` cannot be moved"
        );
        let moved = self.address(address.parse().unwrap());
        *text = format!("{moved}/{length}");
    }

    fn policy(&mut self, policy: &mut Policy) {
        for rule in &mut policy.rules {
            for operation in &mut rule.to {
                let methods = operation.methods.iter_mut();
                for method in methods.chain(&mut operation.not_methods) {
                    *method = without_brackets(method);
                }
            }
            for source in &mut rule.from {
                let blocks = source.ip_blocks.iter_mut().chain(&mut source.not_ip_blocks);
                blocks.for_each(|text| self.block(text));
            }
            for condition in &mut rule.when {
                if condition.key == Key::SourceIp {
                    let values = condition.values.iter_mut().chain(&mut condition.not_values);
                    values.for_each(|text| self.block(text));
                }
            }
        }
    }

    fn filter(&mut self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.filter(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "directRemoteIp" {
                        let address = value["addressPrefix"].as_str().unwrap();
                        let moved = self.address(address.parse().unwrap());
                        value["addressPrefix"] = moved.to_string().into();
                    } else {
                        // An authorizer that nobody answers for: asked is refused, see `config.rs`.
                        if name == "failureModeAllow" {
                            *value = false.into();
                        }
                        self.filter(value);
                    }
                }
            }
            Value::String(text) if text.contains("-method[") => *text = without_brackets(text),
            _ => {}
        }
    }
}

fn without_brackets(text: &str) -> String {
    text.replace(['[', ']'], ".")
}

fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All cases of `CASES.yaml`.
pub(crate) fn read(folder: &Path) -> Vec<Case> {
    let index = yaml(&folder.join("CASES.yaml"));
    let mut moved = Moved::default();
    let mut cases = Vec::new();
    for case in index["cases"].as_array().unwrap() {
        let text = |field: &str| case[field].as_str().unwrap_or_default();
        let snapshot = read_files(&[folder.join(text("input"))]).unwrap();
        let policies = snapshot.resources(Kind::AuthorizationPolicy).iter();
        let policies = policies.map(|object| {
            let mut policy = translate(object).unwrap();
            moved.policy(&mut policy);
            Arc::new(policy)
        });
        let policies = policies.collect();
        let filters = case["expected"].as_array().unwrap().iter().map(|path| {
            let mut filter = yaml(&folder.join(path.as_str().unwrap()));
            moved.filter(&mut filter);
            filter
        });
        // Transcribed from istio's master of August 2026, which is to be 1.32.
        let mut settings = Settings::of(Release {
            minor: 32,
            patch: 0,
        });
        if let Some(domain) = case["trustDomain"].as_str() {
            settings.trust_domain = domain.to_owned();
        }
        let aliases = case["aliases"].as_array().into_iter().flatten();
        settings.trust_domain_aliases = aliases
            .map(|one| one.as_str().unwrap().to_owned())
            .collect();
        let mesh = text("meshConfig");
        // istiod drops a provider whose configuration is invalid, as if it were not there.
        if !mesh.is_empty() && mesh != "invalid" {
            let provider = &index["meshConfigs"][mesh]["extensionProviders"][0];
            settings.authorizers = vec![Authorizer {
                name: provider["name"].as_str().unwrap().to_owned(),
                http_only: !provider["envoyExtAuthzHttp"].is_null(),
                definition: String::new(),
            }];
        }
        cases.push(Case {
            name: format!("{}/{}", text("transport"), text("name")),
            tcp: text("transport") == "tcp",
            policies,
            settings: Arc::new(settings),
            filters: filters.collect(),
            token_rules: Vec::new(),
        });
    }
    cases
}
