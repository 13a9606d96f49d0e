//! What istiod makes of ALLOW, DENY and AUDIT policies, written again from its source (istio/istio
//! `pilot/pkg/security/authz`: `builder/builder.go`, `model/model.go`, `model/generator.go`,
//! `matcher/*.go`), for policies that the goldens do not have.
//!
//! In: policies without trust domain aliases. Out: RBAC filters. It counts as istiod only because it
//! reproduces the goldens, which the test checks before it uses it.

use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use serde_json::{Map, Value, json};

use crate::cases::Case;

/// A value that istiod cannot translate here.
struct Untranslatable;

type One<'g> = &'g dyn Fn(&str) -> Result<Value, Untranslatable>;
type Many<'g> = &'g dyn Fn(&[String]) -> Result<Value, Untranslatable>;

/// The filters of a chain, in istiod's order.
pub(crate) fn filters(case: &Case) -> Vec<Value> {
    let actions = [
        (Action::Audit, Some("LOG")),
        (Action::Deny, Some("DENY")),
        (Action::Allow, None),
    ];
    let filters = actions.iter().filter_map(|(action, name)| {
        let policies = case
            .policies
            .iter()
            .filter(|policy| policy.action == *action);
        let (mut enforced, mut shadow) = (None, None);
        for policy in policies {
            let into = if policy.dry_run {
                &mut shadow
            } else {
                &mut enforced
            };
            rules(policy, case.tcp, into.get_or_insert_with(Map::new));
        }
        (enforced.is_some() || shadow.is_some()).then(|| filter(case.tcp, *name, enforced, shadow))
    });
    filters.collect()
}

fn filter(
    tcp: bool,
    action: Option<&str>,
    enforced: Option<Map<String, Value>>,
    shadow: Option<Map<String, Value>>,
) -> Value {
    let part = if tcp { "network" } else { "http" };
    let mut config = json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.{part}.rbac.v3.RBAC")});
    if tcp {
        config["statPrefix"] = "tcp.".into();
    }
    for (name, policies) in [("rules", enforced), ("shadowRules", shadow)] {
        let Some(policies) = policies else { continue };
        config[name] = json!({});
        if let Some(action) = action {
            config[name]["action"] = action.into();
        }
        if !policies.is_empty() {
            config[name]["policies"] = policies.into();
        }
    }
    json!({"name": format!("envoy.filters.{part}.rbac"), "typedConfig": config})
}

fn rules(policy: &Policy, tcp: bool, into: &mut Map<String, Value>) {
    let name = |index| {
        format!(
            "ns[{}]-policy[{}]-rule[{index}]",
            policy.name.namespace, policy.name.name
        )
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        let translation = Translation { policy, tcp };
        if let Ok(translated) = translation.rule(rule) {
            into.insert(name(index), translated);
        }
    }
    if policy.rules.is_empty() {
        let never = json!({"permissions": [{"notRule": {"any": true}}], "principals": [{"notId": {"any": true}}]});
        into.insert(name(0), never);
    }
}

/// Permissions and principals are built alike, with other words.
#[derive(Clone, Copy)]
struct Words {
    all: [&'static str; 2],
    any: [&'static str; 2],
    not: &'static str,
}

const PERMISSION: Words = Words {
    all: ["andRules", "rules"],
    any: ["orRules", "rules"],
    not: "notRule",
};
const PRINCIPAL: Words = Words {
    all: ["andIds", "ids"],
    any: ["orIds", "ids"],
    not: "notId",
};

impl Words {
    fn all(self, list: Vec<Value>) -> Value {
        let list = if list.is_empty() {
            vec![json!({"any": true})]
        } else {
            list
        };
        json!({self.all[0]: {self.all[1]: list}})
    }

    fn any(self, list: Vec<Value>) -> Value {
        json!({self.any[0]: {self.any[1]: list}})
    }
}

struct Translation<'p> {
    policy: &'p Policy,
    tcp: bool,
}

impl Translation<'_> {
    fn rule(&self, rule: &Rule) -> Result<Value, Untranslatable> {
        let (mut permission, mut principal) = (Vec::new(), Vec::new());
        for condition in &rule.when {
            self.condition(condition, &mut permission, &mut principal)?;
        }
        let mut permissions = Vec::new();
        for operation in &rule.to {
            let mut list = self.operation(operation)?;
            list.extend(permission.iter().cloned());
            permissions.push(PERMISSION.all(list));
        }
        if permissions.is_empty() {
            permissions.push(PERMISSION.all(permission));
        }
        let mut principals = Vec::new();
        for source in &rule.from {
            let mut list = self.source(source)?;
            list.extend(principal.iter().cloned());
            principals.push(PRINCIPAL.all(list));
        }
        if principals.is_empty() {
            principals.push(PRINCIPAL.all(principal));
        }
        Ok(json!({"permissions": permissions, "principals": principals}))
    }

    fn operation(&self, operation: &Operation) -> Result<Vec<Value>, Untranslatable> {
        let mut list = Vec::new();
        let mut add = |values: &[String], nots: &[String], one: One<'_>| {
            self.each(PERMISSION, values, nots, one, &mut list)
        };
        add(&operation.hosts, &operation.not_hosts, &|text| {
            self.header(":authority", text, true)
        })?;
        add(&operation.methods, &operation.not_methods, &|text| {
            self.header(":method", text, false)
        })?;
        add(&operation.paths, &operation.not_paths, &|text| {
            self.path(text)
        })?;
        add(&operation.ports, &operation.not_ports, &port)?;
        Ok(list)
    }

    fn source(&self, source: &Source) -> Result<Vec<Value>, Untranslatable> {
        let mut list = Vec::new();
        self.each(
            PRINCIPAL,
            &source.principals,
            &source.not_principals,
            &principal,
            &mut list,
        )?;
        let (tokens, not_tokens) = (&source.request_principals, &source.not_request_principals);
        self.whole(
            PRINCIPAL,
            tokens,
            not_tokens,
            &|texts| self.request_principals(texts),
            &mut list,
        )?;
        let mut add = |values: &[String], nots: &[String], one: One<'_>| {
            self.each(PRINCIPAL, values, nots, one, &mut list)
        };
        add(
            &source.service_accounts,
            &source.not_service_accounts,
            &|text| self.account(text),
        )?;
        add(
            &source.trust_domains,
            &source.not_trust_domains,
            &trust_domain,
        )?;
        add(&source.namespaces, &source.not_namespaces, &namespace)?;
        add(
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            &|text| block("remoteIp", text),
        )?;
        add(&source.ip_blocks, &source.not_ip_blocks, &|text| {
            block("directRemoteIp", text)
        })?;
        Ok(list)
    }

    fn condition(
        &self,
        condition: &Condition,
        permission: &mut Vec<Value>,
        principals: &mut Vec<Value>,
    ) -> Result<(), Untranslatable> {
        let Condition {
            key,
            values,
            not_values,
        } = condition;
        let claims = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(ToString::to_string).collect();
            move |texts: &[String]| self.claims(&path, texts)
        };
        let mut to = |one: One<'_>| self.each(PERMISSION, values, not_values, one, permission);
        match key {
            Key::DestinationIp => return to(&|text| block("destinationIp", text)),
            Key::DestinationPort => return to(&port),
            Key::ConnectionSni => {
                return to(&|text| Ok(json!({"requestedServerName": string(text, "")})));
            }
            Key::Experimental(name) => {
                let name = name
                    .trim_start_matches("experimental.")
                    .trim_end_matches(']');
                let (filter, key) = name.split_once('[').ok_or(Untranslatable)?;
                let metadata = |texts: &[String]| {
                    let value = strings(texts);
                    Ok(
                        json!({"metadata": {"filter": filter, "path": [{"key": key}], "value": value}}),
                    )
                };
                return self.whole(PERMISSION, values, not_values, &metadata, permission);
            }
            _ => {}
        }
        let whole = |many: Many<'_>, into: &mut Vec<Value>| {
            self.whole(PRINCIPAL, values, not_values, many, into)
        };
        match key {
            Key::RequestAuthPrincipal => {
                return whole(&|texts| self.request_principals(texts), principals);
            }
            Key::RequestAuthAudiences => return whole(&claims(&["aud"]), principals),
            Key::RequestAuthPresenter => return whole(&claims(&["azp"]), principals),
            Key::RequestAuthClaim(path) => {
                return whole(&|texts| self.claims(path, texts), principals);
            }
            _ => {}
        }
        let mut from = |one: One<'_>| self.each(PRINCIPAL, values, not_values, one, principals);
        match key {
            Key::SourceIp => from(&|text| block("directRemoteIp", text)),
            Key::RemoteIp => from(&|text| block("remoteIp", text)),
            Key::SourceNamespace => from(&namespace),
            Key::SourceTrustDomain => from(&trust_domain),
            Key::SourceServiceAccount => from(&|text| self.account(text)),
            Key::SourcePrincipal => from(&principal),
            Key::RequestHeader(name) => from(&|text| self.header(name, text, false)),
            _ => Err(Untranslatable),
        }
    }

    /// `model.go` `rule.permission`, `rule.principal`, without an extended generator.
    fn each(
        &self,
        words: Words,
        values: &[String],
        nots: &[String],
        one: One<'_>,
        into: &mut Vec<Value>,
    ) -> Result<(), Untranslatable> {
        for (negated, values) in [(false, values), (true, nots)] {
            let mut any = Vec::new();
            for text in values {
                any.extend(self.checked(one(text))?);
            }
            if !any.is_empty() {
                let any = words.any(any);
                into.push(if negated {
                    json!({words.not: any})
                } else {
                    any
                });
            }
        }
        Ok(())
    }

    /// The same with an extended generator.
    fn whole(
        &self,
        words: Words,
        values: &[String],
        nots: &[String],
        many: Many<'_>,
        into: &mut Vec<Value>,
    ) -> Result<(), Untranslatable> {
        for (negated, values) in [(false, values), (true, nots)] {
            if values.is_empty() {
                continue;
            }
            if let Some(one) = self.checked(many(values))? {
                into.push(if negated {
                    json!({words.not: one})
                } else {
                    one
                });
            }
        }
        Ok(())
    }

    /// `model.go:checkError`.
    fn checked(
        &self,
        value: Result<Value, Untranslatable>,
    ) -> Result<Option<Value>, Untranslatable> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(untranslatable) if self.policy.action == Action::Allow => Err(untranslatable),
            Err(_) => Ok(None),
        }
    }

    fn http_only(&self) -> Result<(), Untranslatable> {
        if self.tcp {
            Err(Untranslatable)
        } else {
            Ok(())
        }
    }

    fn header(&self, name: &str, text: &str, ignore_case: bool) -> Result<Value, Untranslatable> {
        self.http_only()?;
        if text == "*" {
            return Ok(json!({"header": {"name": name, "presentMatch": true}}));
        }
        let mut matcher = string(text, "");
        if ignore_case {
            matcher["ignoreCase"] = true.into();
        }
        Ok(json!({"header": {"name": name, "stringMatch": matcher}}))
    }

    fn path(&self, text: &str) -> Result<Value, Untranslatable> {
        self.http_only()?;
        if !text.contains("{*}") && !text.contains("{**}") {
            return Ok(json!({"urlPath": {"path": string(text, "")}}));
        }
        let kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
        let template = text.replace("{*}", "*").replace("{**}", "**");
        let config = json!({"@type": kind, "pathTemplate": template});
        Ok(json!({"uriTemplate": {"name": "uri-template", "typedConfig": config}}))
    }

    fn account(&self, text: &str) -> Result<Value, Untranslatable> {
        let own = self.policy.name.namespace.as_str();
        let (namespace, account) = text.split_once('/').unwrap_or((own, text));
        let (namespace, account) = (quoted(namespace), quoted(account));
        Ok(identity(regex(&format!(
            "spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
        ))))
    }

    fn request_principals(&self, texts: &[String]) -> Result<Value, Untranslatable> {
        self.http_only()?;
        let mut list: Vec<Value> = texts.iter().map(|text| request_principal(text)).collect();
        Ok(if list.len() == 1 {
            list.remove(0)
        } else {
            PRINCIPAL.any(list)
        })
    }

    fn claims(&self, path: &[String], texts: &[String]) -> Result<Value, Untranslatable> {
        self.http_only()?;
        let value = strings(texts);
        let either =
            json!({"orMatch": {"valueMatchers": [{"listMatch": {"oneOf": value.clone()}}, value]}});
        Ok(token_metadata(path, either))
    }
}

fn token_metadata(path: &[String], value: Value) -> Value {
    let payload = std::iter::once(json!({"key": "payload"}));
    let path: Vec<Value> = payload
        .chain(path.iter().map(|name| json!({"key": name})))
        .collect();
    json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}})
}

fn request_principal(text: &str) -> Value {
    let exact = |text: &str| json!({"exact": text});
    let split = text.rsplit_once('/');
    let (issuer, subject) = if text == "*" {
        (regex(".+"), regex(".+"))
    } else if let Some(rest) = text.strip_prefix('*') {
        match split {
            Some(("*", subject)) => (regex(".+"), exact(subject)),
            Some((issuer, subject)) => (json!({"suffix": &issuer[1..]}), exact(subject)),
            None => (regex(".+"), json!({"suffix": rest})),
        }
    } else if let Some(rest) = text.strip_suffix('*') {
        match split {
            Some((issuer, "*")) => (exact(issuer), regex(".+")),
            Some((issuer, subject)) => (
                exact(issuer),
                json!({"prefix": subject.trim_end_matches('*')}),
            ),
            None => (json!({"prefix": rest}), regex(".+")),
        }
    } else {
        let (issuer, subject) = split.unwrap_or((text, ""));
        (exact(issuer), exact(subject))
    };
    let one = |name: &str, matcher: Value| {
        token_metadata(&[name.to_owned()], json!({"stringMatch": matcher}))
    };
    PRINCIPAL.all(vec![one("iss", issuer), one("sub", subject)])
}

fn regex(text: &str) -> Value {
    json!({"safeRegex": {"regex": text}})
}

/// Go's `regexp.QuoteMeta`.
fn quoted(text: &str) -> String {
    let special = |letter: char| r"\.+*?()|[]{}^$".contains(letter);
    text.chars()
        .flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter]))
        .collect()
}

/// `string.go:StringMatcherWithPrefix`.
fn string(text: &str, before: &str) -> Value {
    if text == "*" {
        regex(".+")
    } else if let Some(suffix) = text.strip_prefix('*') {
        if before.is_empty() {
            json!({"suffix": suffix})
        } else {
            regex(&format!("{before}.*{}", quoted(suffix)))
        }
    } else if let Some(prefix) = text.strip_suffix('*') {
        json!({"prefix": format!("{before}{prefix}")})
    } else {
        json!({"exact": format!("{before}{text}")})
    }
}

fn strings(texts: &[String]) -> Value {
    let mut list: Vec<Value> = texts
        .iter()
        .map(|text| json!({"stringMatch": string(text, "")}))
        .collect();
    if list.len() == 1 {
        list.remove(0)
    } else {
        json!({"orMatch": {"valueMatchers": list}})
    }
}

fn identity(matcher: Value) -> Value {
    json!({"authenticated": {"principalName": matcher}})
}

fn principal(text: &str) -> Result<Value, Untranslatable> {
    Ok(identity(string(text, "spiffe://")))
}

fn namespace(text: &str) -> Result<Value, Untranslatable> {
    let parts: Vec<String> = text.split('*').map(quoted).collect();
    Ok(identity(regex(&format!(".*/ns/{}/.*", parts.join(".*")))))
}

fn trust_domain(text: &str) -> Result<Value, Untranslatable> {
    Ok(identity(match text.split_once('*') {
        Some(_) if text == "*" => json!({"prefix": "spiffe://"}),
        None => json!({"prefix": format!("spiffe://{text}/")}),
        Some((before, after)) => regex(&format!(
            "spiffe://{}[^/]*{}/.*",
            quoted(before),
            quoted(after)
        )),
    }))
}

fn port(text: &str) -> Result<Value, Untranslatable> {
    let port: u16 = text.parse().map_err(|_| Untranslatable)?;
    Ok(json!({"destinationPort": port}))
}

fn block(name: &str, text: &str) -> Result<Value, Untranslatable> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let length: u8 = length.parse().map_err(|_| Untranslatable)?;
    Ok(json!({name: {"addressPrefix": address, "prefixLen": length}}))
}
