//! AuthorizationPolicy, field by field, into the evaluator's words.
//!
//! In: the object as JSON. Out: a [`Policy`], or every reason why its meaning is not known.
//! Invariant: an unknown field, action or a value of the wrong type is a [`Misunderstanding`] with
//! its path; nothing is passed over.

use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use serde_json::{Map, Value};

use super::policy::{HttpField, Misunderstanding};
use crate::snapshot::Object;

/// Reads a policy.
///
/// # Errors
/// All parts that are not understood.
pub fn translate(object: &Object<Value>) -> Result<Policy, Vec<Misunderstanding>> {
    let mut reader = Reader {
        problems: Vec::new(),
    };
    let empty = Map::new();
    let spec = match object.body.get("spec") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(spec)) => spec,
        Some(_) => {
            reader.misunderstood("spec", "must be an object");
            &empty
        }
    };
    reader.known(
        spec,
        "spec",
        &[
            "selector",
            "targetRef",
            "targetRefs",
            "rules",
            "action",
            "provider",
        ],
    );
    let action = reader.action(spec);
    let rules = reader.list(spec.get("rules"), "spec.rules", Reader::rule);
    let mut policy = Policy::new(
        &object.metadata.namespace,
        &object.metadata.name,
        action,
        rules,
    );
    policy.dry_run = object
        .metadata
        .annotations
        .get("istio.io/dry-run")
        .is_some_and(is_true);
    if reader.problems.is_empty() {
        Ok(policy)
    } else {
        Err(reader.problems)
    }
}

/// Go's `strconv.ParseBool`; what it refuses is not true.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

struct Reader {
    problems: Vec<Misunderstanding>,
}

impl Reader {
    fn misunderstood(&mut self, path: &str, reason: impl Into<String>) {
        self.problems.push(Misunderstanding {
            path: path.into(),
            reason: reason.into(),
        });
    }

    fn known(&mut self, map: &Map<String, Value>, path: &str, fields: &[&str]) {
        for key in map.keys() {
            if !fields.contains(&key.as_str()) {
                self.misunderstood(
                    &format!("{path}.{key}"),
                    format!("`{key}` is no field that castoff knows"),
                );
            }
        }
    }

    fn action(&mut self, spec: &Map<String, Value>) -> Action {
        match spec.get("action") {
            None | Some(Value::Null) => Action::Allow,
            Some(Value::String(action)) if action == "ALLOW" => Action::Allow,
            Some(Value::String(action)) if action == "DENY" => Action::Deny,
            Some(Value::String(action)) if action == "AUDIT" => Action::Audit,
            Some(Value::String(action)) if action == "CUSTOM" => {
                let provider = spec
                    .get("provider")
                    .and_then(|provider| provider["name"].as_str());
                if provider.is_none() {
                    self.misunderstood("spec.provider.name", "a CUSTOM policy needs a provider");
                }
                Action::Custom {
                    provider: provider.unwrap_or_default().to_owned(),
                }
            }
            Some(other) => {
                self.misunderstood(
                    "spec.action",
                    format!("`{other}` is no action that castoff knows"),
                );
                Action::Allow
            }
        }
    }

    fn list<T>(
        &mut self,
        value: Option<&Value>,
        path: &str,
        read: fn(&mut Self, &Map<String, Value>, &str) -> T,
    ) -> Vec<T> {
        let items = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.misunderstood(path, "must be a list");
                return Vec::new();
            }
        };
        let empty = Map::new();
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let path = format!("{path}[{index}]");
                match item {
                    Value::Object(map) => read(self, map, &path),
                    Value::Null => read(self, &empty, &path),
                    _ => {
                        self.misunderstood(&path, "must be an object");
                        read(self, &empty, &path)
                    }
                }
            })
            .collect()
    }

    fn rule(&mut self, map: &Map<String, Value>, path: &str) -> Rule {
        self.known(map, path, &["from", "to", "when"]);
        Rule {
            from: self.list(map.get("from"), &format!("{path}.from"), Self::source),
            to: self.list(map.get("to"), &format!("{path}.to"), Self::operation),
            when: self.list(map.get("when"), &format!("{path}.when"), Self::condition),
        }
    }

    /// The object below `source` or `operation`, with its path.
    fn inner<'a>(
        &mut self,
        map: &'a Map<String, Value>,
        path: &str,
        key: &str,
    ) -> Option<&'a Map<String, Value>> {
        self.known(map, path, &[key]);
        let inner = map.get(key).and_then(Value::as_object);
        if inner.is_none_or(Map::is_empty) {
            self.misunderstood(
                &format!("{path}.{key}"),
                "is empty, which Istio does not accept",
            );
        }
        inner
    }

    fn source(&mut self, map: &Map<String, Value>, path: &str) -> Source {
        let Some(source) = self.inner(map, path, "source") else {
            return Source::default();
        };
        let path = format!("{path}.source");
        let fields = SOURCE_FIELDS.map(|(name, _)| name);
        self.known(source, &path, &fields);
        let mut read = |name: &str| self.texts(source.get(name), &format!("{path}.{name}"));
        Source {
            principals: read("principals"),
            not_principals: read("notPrincipals"),
            request_principals: read("requestPrincipals"),
            not_request_principals: read("notRequestPrincipals"),
            namespaces: read("namespaces"),
            not_namespaces: read("notNamespaces"),
            service_accounts: read("serviceAccounts"),
            not_service_accounts: read("notServiceAccounts"),
            trust_domains: read("trustDomains"),
            not_trust_domains: read("notTrustDomains"),
            ip_blocks: read("ipBlocks"),
            not_ip_blocks: read("notIpBlocks"),
            remote_ip_blocks: read("remoteIpBlocks"),
            not_remote_ip_blocks: read("notRemoteIpBlocks"),
        }
    }

    fn operation(&mut self, map: &Map<String, Value>, path: &str) -> Operation {
        let Some(operation) = self.inner(map, path, "operation") else {
            return Operation::default();
        };
        let path = format!("{path}.operation");
        let fields = OPERATION_FIELDS.map(|(name, _)| name);
        self.known(operation, &path, &fields);
        let mut read = |name: &str| self.texts(operation.get(name), &format!("{path}.{name}"));
        Operation {
            hosts: read("hosts"),
            not_hosts: read("notHosts"),
            ports: read("ports"),
            not_ports: read("notPorts"),
            methods: read("methods"),
            not_methods: read("notMethods"),
            paths: read("paths"),
            not_paths: read("notPaths"),
        }
    }

    fn condition(&mut self, map: &Map<String, Value>, path: &str) -> Condition {
        self.known(map, path, &["key", "values", "notValues"]);
        let key = map.get("key").and_then(Value::as_str).unwrap_or_default();
        if key.is_empty() {
            self.misunderstood(&format!("{path}.key"), "is missing");
        }
        let values = self.texts(map.get("values"), &format!("{path}.values"));
        let not_values = self.texts(map.get("notValues"), &format!("{path}.notValues"));
        if values.is_empty() && not_values.is_empty() {
            self.misunderstood(path, "has neither values nor notValues");
        }
        Condition {
            key: Key::parse(key),
            values,
            not_values,
        }
    }

    /// A list of texts; numbers are taken as their digits, as an unquoted port is.
    fn texts(&mut self, value: Option<&Value>, path: &str) -> Vec<String> {
        let items = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.misunderstood(path, "must be a list");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::String(text) if !text.is_empty() => texts.push(text.clone()),
                Value::Number(number) if number.is_u64() => texts.push(number.to_string()),
                _ => self.misunderstood(
                    &format!("{path}[{index}]"),
                    "must be a text that is not empty",
                ),
            }
        }
        texts
    }
}

/// Fields of `source`, and whether ztunnel can check them
/// (istio pilot/pkg/serviceregistry/ambient/authorization.go `httpSources`).
const SOURCE_FIELDS: [(&str, bool); 14] = [
    ("principals", true),
    ("notPrincipals", true),
    ("requestPrincipals", false),
    ("notRequestPrincipals", false),
    ("namespaces", true),
    ("notNamespaces", true),
    ("serviceAccounts", true),
    ("notServiceAccounts", true),
    ("trustDomains", true),
    ("notTrustDomains", true),
    ("ipBlocks", true),
    ("notIpBlocks", true),
    ("remoteIpBlocks", false),
    ("notRemoteIpBlocks", false),
];

/// Fields of `operation`, and whether ztunnel can check them (`httpOperations`).
const OPERATION_FIELDS: [(&str, bool); 8] = [
    ("hosts", false),
    ("notHosts", false),
    ("ports", true),
    ("notPorts", true),
    ("methods", false),
    ("notMethods", false),
    ("paths", false),
    ("notPaths", false),
];

/// Keys of `when` that ztunnel can check (`l4WhenAttributes`).
const L4_KEYS: [&str; 5] = [
    "source.ip",
    "source.namespace",
    "source.principal",
    "destination.ip",
    "destination.port",
];

/// Fields that only an HTTP proxy can check, in the order of the object.
pub fn http_fields(spec: &Value) -> Vec<HttpField> {
    let mut found = Vec::new();
    for (index, rule) in entries(&spec["rules"]) {
        let parts = [
            ("from", "source", &SOURCE_FIELDS[..]),
            ("to", "operation", &OPERATION_FIELDS[..]),
        ];
        for (list, inner, fields) in parts {
            for (position, entry) in entries(&rule[list]) {
                for (name, at_ztunnel) in fields {
                    let written = entry[inner][*name]
                        .as_array()
                        .is_some_and(|values| !values.is_empty());
                    if written && !at_ztunnel {
                        found.push(HttpField {
                            name: (*name).into(),
                            path: format!("rules[{index}].{list}[{position}].{inner}.{name}")
                                .into(),
                        });
                    }
                }
            }
        }
        for (position, condition) in entries(&rule["when"]) {
            let key = condition["key"].as_str().unwrap_or_default();
            if !L4_KEYS.contains(&key) {
                found.push(HttpField {
                    name: key.into(),
                    path: format!("rules[{index}].when[{position}]").into(),
                });
            }
        }
    }
    found
}

fn entries(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}
