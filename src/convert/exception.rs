//! DENY policies that would turn a waypoint itself away, edited so that they except it.
//!
//! In: the user's policy and the waypoints that it denies. Out: the same object with these waypoints
//! among those not meant; and, of such an object, what the user wrote. Invariant: only sources that
//! match a waypoint change, and only by that exception: the waypoint enforces the copy.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::edit::{self, Edited};
use crate::mesh::Waypoint;

/// Annotation with the identities that were excepted, separated by commas.
const EXCEPTED_ANNOTATION: &str = "castoff.dev/excepted";

/// The identity of a waypoint, as policies name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Excepted {
    /// `cluster.local/ns/shop/sa/waypoint`.
    principal: String,
    /// `shop`.
    namespace: String,
    /// `shop/waypoint`, where a source names service accounts: it may not name principals too
    /// (istio pkg/config/validation/agent/validation.go, `validateServiceAccounts`).
    account: String,
}

/// A place in a policy that denies a waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exception {
    /// Position of the rule.
    rule: usize,
    /// Position in `from`; `None` where it has none.
    from: Option<usize>,
    waypoint: Excepted,
    /// Why.
    pub(super) because: Edited,
}

/// What a part of a rule says of a caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Means,
    MeansOthers,
}

impl Says {
    fn of(wanted: Option<bool>, unwanted: Option<bool>) -> Self {
        match (wanted, unwanted) {
            (Some(false), _) | (_, Some(true)) => Self::MeansOthers,
            (None, None) => Self::Nothing,
            _ => Self::Means,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::MeansOthers, _) | (_, Self::MeansOthers) => Self::MeansOthers,
            (Self::Nothing, Self::Nothing) => Self::Nothing,
            _ => Self::Means,
        }
    }
}

impl Excepted {
    pub(super) fn of(waypoint: &Waypoint, trust_domain: &str) -> Self {
        let namespace = waypoint.name.namespace.to_string();
        Self {
            principal: waypoint.principal(trust_domain),
            account: format!("{namespace}/{}", waypoint.service_account),
            namespace,
        }
    }

    /// Where a DENY says of callers what holds for this waypoint too. What does not ask who calls is
    /// meant for everybody and is left alone, but where `more` is denied at ztunnel than is written.
    pub(super) fn denied_by(&self, policy: &Value, more: &BTreeSet<edit::Part>) -> Vec<Exception> {
        if policy.pointer("/spec/action") != Some(&Value::from("DENY")) {
            return Vec::new();
        }
        let own = policy["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut found = Vec::new();
        for (rule, body) in list(&policy["spec"]["rules"]) {
            let when = list(&body["when"])
                .map(|(_, condition)| self.condition(condition, own))
                .fold(Says::Nothing, Says::and);
            let mut look = |from, says| {
                let because = match says {
                    Says::Means => Edited::DeniesWaypoint,
                    Says::Nothing if more.contains(&(rule, from)) => Edited::DeniesMoreAtZtunnel,
                    _ => return,
                };
                found.push(Exception {
                    rule,
                    from,
                    waypoint: self.clone(),
                    because,
                });
            };
            if list(&body["from"]).next().is_none() {
                look(None, when);
            }
            for (at, entry) in list(&body["from"]) {
                look(Some(at), self.source(&entry["source"], own).and(when));
            }
        }
        found
    }

    fn source(&self, source: &Value, policy_namespace: &str) -> Says {
        let accounts = |list: &Value| self.is_among_accounts(list, policy_namespace);
        Says::of(
            is_among(&source["principals"], &self.principal),
            is_among(&source["notPrincipals"], &self.principal),
        )
        .and(Says::of(
            self.is_among_namespaces(&source["namespaces"]),
            self.is_among_namespaces(&source["notNamespaces"]),
        ))
        .and(Says::of(
            accounts(&source["serviceAccounts"]),
            accounts(&source["notServiceAccounts"]),
        ))
    }

    fn condition(&self, condition: &Value, policy_namespace: &str) -> Says {
        let among: &dyn Fn(&Value) -> Option<bool> = match condition["key"].as_str() {
            Some("source.principal") => &|list| is_among(list, &self.principal),
            Some("source.namespace") => &|list| self.is_among_namespaces(list),
            Some("source.serviceAccount") => &|list| self.is_among_accounts(list, policy_namespace),
            _ => return Says::Nothing,
        };
        Says::of(among(&condition["values"]), among(&condition["notValues"]))
    }

    /// In the name of a namespace each star is any characters (istio
    /// pilot/pkg/security/authz/model/generator.go, `srcNamespaceGenerator`).
    fn is_among_namespaces(&self, patterns: &Value) -> Option<bool> {
        let matches = |(_, pattern): (usize, &Value)| {
            let pattern = pattern.as_str();
            pattern.is_none_or(|pattern| is_like(&self.namespace, pattern))
        };
        (list(patterns).next().is_some()).then(|| list(patterns).any(matches))
    }

    /// A service account without a namespace is one of the policy's own (istio
    /// pilot/pkg/security/authz/model/generator.go, `serviceAccountRegex`).
    fn is_among_accounts(&self, accounts: &Value, policy_namespace: &str) -> Option<bool> {
        let (namespace, account) = self.account.split_once('/')?;
        let without_namespace = (namespace == policy_namespace).then_some(account);
        (list(accounts).next().is_some()).then(|| {
            list(accounts).any(|(_, one)| {
                let one = one.as_str();
                one == Some(&self.account) || (one.is_some() && one == without_namespace)
            })
        })
    }
}

/// The object with waypoints excepted in these places.
pub(super) fn excepting(raw: &Value, exceptions: &[Exception]) -> Value {
    let mut object = raw.clone();
    for Exception {
        rule,
        from,
        waypoint,
        ..
    } in exceptions
    {
        let Some(rule) = object.pointer_mut(&format!("/spec/rules/{rule}")) else {
            continue;
        };
        if from.is_none() && list(&rule["from"]).next().is_none() {
            rule["from"] = json!([{"source": {}}]);
        }
        let source = &mut rule["from"][from.unwrap_or(0)]["source"];
        let Some(source) = source.as_object_mut() else {
            continue;
        };
        let (field, identity) = field_of(source, waypoint);
        let list = source
            .entry(field)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list
            && !list.iter().any(|known| known == identity)
        {
            list.push(json!(identity));
        }
    }
    let mut principals: Vec<&str> = excepted_in(raw);
    principals.extend(exceptions.iter().map(|one| one.waypoint.principal.as_str()));
    principals.sort_unstable();
    principals.dedup();
    object["metadata"] = metadata(&raw["metadata"], &principals);
    edit::without_status(object)
}

/// What the user wrote of an object that castoff edited: the exceptions gone.
pub(super) fn restored(raw: &Value) -> Option<Value> {
    let excepted = excepted_in(raw);
    if excepted.is_empty() {
        return None;
    }
    let accounts: Vec<String> = excepted.iter().filter_map(|one| account(one)).collect();
    let mut object = raw.clone();
    for rule in object["spec"]["rules"].as_array_mut().into_iter().flatten() {
        let Some(sources) = rule["from"].as_array_mut() else {
            continue;
        };
        for source in sources
            .iter_mut()
            .filter_map(|from| from["source"].as_object_mut())
        {
            for field in ["notPrincipals", "notServiceAccounts"] {
                let Some(Value::Array(list)) = source.get_mut(field) else {
                    continue;
                };
                list.retain(|one| {
                    let one = one.as_str().unwrap_or_default();
                    !excepted.contains(&one) && !accounts.iter().any(|account| account == one)
                });
                if list.is_empty() {
                    source.remove(field);
                }
            }
        }
        // Nobody writes an empty source: it was made for the exception.
        sources.retain(|from| from["source"].as_object().is_none_or(|it| !it.is_empty()));
        if sources.is_empty()
            && let Some(rule) = rule.as_object_mut()
        {
            rule.remove("from");
        }
    }
    Some(object)
}

fn excepted_in(raw: &Value) -> Vec<&str> {
    raw["metadata"]["annotations"][EXCEPTED_ANNOTATION]
        .as_str()
        .map(|note| note.split(',').collect())
        .unwrap_or_default()
}

/// `shop/waypoint` of `cluster.local/ns/shop/sa/waypoint`.
fn account(principal: &str) -> Option<String> {
    let (_, rest) = principal.split_once("/ns/")?;
    let (namespace, account) = rest.split_once("/sa/")?;
    Some(format!("{namespace}/{account}"))
}

fn field_of<'e>(source: &Map<String, Value>, excepted: &'e Excepted) -> (&'static str, &'e str) {
    let by_account = ["serviceAccounts", "notServiceAccounts"]
        .iter()
        .any(|field| source.contains_key(*field));
    if by_account {
        ("notServiceAccounts", &excepted.account)
    } else {
        ("notPrincipals", &excepted.principal)
    }
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// Whether a list names it: exactly, by `prefix*`, `*suffix` or `*`; `None` without a list. The trust
/// domain of a principal counts as any that the mesh may use, so `*/ns/…` is covered by the suffix form.
fn is_among(patterns: &Value, value: &str) -> Option<bool> {
    let matches = |pattern: &Value| {
        let Some(pattern) = pattern.as_str() else {
            return true;
        };
        if let Some(prefix) = pattern.strip_suffix('*') {
            match prefix.strip_prefix('*') {
                Some(middle) => value.contains(middle),
                None => value.starts_with(prefix),
            }
        } else if let Some(suffix) = pattern.strip_prefix('*') {
            value.ends_with(suffix)
        } else {
            pattern == value
        }
    };
    (list(patterns).next().is_some()).then(|| list(patterns).any(|(_, pattern)| matches(pattern)))
}

/// Whether a text is this pattern with characters in the place of each star.
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = text.char_indices().map(|(at, _)| &text[at..]);
            is_like("", rest) || ends.any(|end| is_like(end, rest))
        }),
    }
}

/// That of the object, with the note of who is excepted.
fn metadata(metadata: &Value, excepted: &[&str]) -> Value {
    let mut kept = edit::metadata(metadata);
    if !excepted.is_empty() {
        let annotations = kept.entry("annotations").or_insert_with(|| json!({}));
        annotations[EXCEPTED_ANNOTATION] = json!(excepted.join(","));
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waypoint() -> Excepted {
        Excepted {
            principal: "cluster.local/ns/shop/sa/waypoint".to_owned(),
            namespace: "shop".to_owned(),
            account: "shop/waypoint".to_owned(),
        }
    }

    fn deny(rules: &Value) -> Value {
        json!({
            "metadata": {"name": "admins", "namespace": "shop", "uid": "1"},
            "spec": {"action": "DENY", "rules": rules},
            "status": {},
        })
    }

    #[test]
    fn a_waypoint_is_excepted_where_ztunnel_is_left_with_more_than_is_written() {
        let principal = "cluster.local/ns/shop/sa/waypoint";
        let to = json!([{"operation": {"ports": ["8080"], "methods": ["POST"]}}]);
        let raw =
            deny(&json!([{"to": to}, {"to": to, "from": [{"source": {"namespaces": ["desk"]}}]}]));
        let more = BTreeSet::from([(0, None), (1, Some(0))]);
        let exceptions = waypoint().denied_by(&raw, &more);
        let because: Vec<Edited> = exceptions.iter().map(|one| one.because).collect();
        assert_eq!(because, [Edited::DeniesMoreAtZtunnel]);
        let edited = excepting(&raw, &exceptions);
        assert_eq!(
            edited["spec"]["rules"][0],
            json!({"to": to, "from": [{"source": {"notPrincipals": [principal]}}]})
        );
        let again = BTreeSet::from([(0, Some(0)), (1, Some(0))]);
        assert_eq!(waypoint().denied_by(&edited, &again), []);
        assert_eq!(
            restored(&edited).map(|one| one["spec"].clone()),
            Some(raw["spec"].clone())
        );
    }

    #[test]
    fn a_waypoint_is_excepted_where_it_is_meant_and_what_the_user_wrote_comes_back() {
        let principal = "cluster.local/ns/shop/sa/waypoint";
        let of = |source: Value| json!({"from": [{"source": source}]});
        let when = |key: &str, field: &str, value: &str| json!({"key": key, field: [value]});
        let to = json!([{"operation": {"ports": ["8080"]}}]);
        for (rule, expected) in [
            (
                of(json!({"notPrincipals": ["cluster.local/ns/ops/sa/admin"]})),
                Some(of(
                    json!({"notPrincipals": ["cluster.local/ns/ops/sa/admin", principal]}),
                )),
            ),
            (
                of(json!({"namespaces": ["sh*"]})),
                Some(of(
                    json!({"namespaces": ["sh*"], "notPrincipals": [principal]}),
                )),
            ),
            (
                of(json!({"namespaces": ["s*o*"]})),
                Some(of(
                    json!({"namespaces": ["s*o*"], "notPrincipals": [principal]}),
                )),
            ),
            (of(json!({"namespaces": ["s*o"]})), None),
            (
                of(json!({"serviceAccounts": ["shop/waypoint"]})),
                Some(of(
                    json!({"serviceAccounts": ["shop/waypoint"], "notServiceAccounts": ["shop/waypoint"]}),
                )),
            ),
            (
                of(json!({"serviceAccounts": ["waypoint"]})),
                Some(of(
                    json!({"serviceAccounts": ["waypoint"], "notServiceAccounts": ["shop/waypoint"]}),
                )),
            ),
            (of(json!({"serviceAccounts": ["desk/waypoint"]})), None),
            (of(json!({"ipBlocks": ["10.0.0.0/8"]})), None),
            (json!({"to": to}), None),
            (
                json!({"when": [when("source.namespace", "values", "shop")]}),
                Some(json!({
                    "when": [when("source.namespace", "values", "shop")],
                    "from": [{"source": {"notPrincipals": [principal]}}],
                })),
            ),
            (
                json!({"to": to, "when": [when("source.serviceAccount", "notValues", "desk/web")]}),
                Some(json!({
                    "to": to,
                    "when": [when("source.serviceAccount", "notValues", "desk/web")],
                    "from": [{"source": {"notPrincipals": [principal]}}],
                })),
            ),
            (
                json!({
                    "from": [{"source": {"namespaces": ["shop"]}}],
                    "when": [when("source.principal", "notValues", principal)],
                }),
                None,
            ),
            (
                json!({
                    "from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}],
                    "when": [when("source.principal", "values", "*")],
                }),
                Some(json!({
                    "from": [{"source": {"ipBlocks": ["10.0.0.0/8"], "notPrincipals": [principal]}}],
                    "when": [when("source.principal", "values", "*")],
                })),
            ),
        ] {
            let raw = deny(&json!([rule]));
            let exceptions = waypoint().denied_by(&raw, &BTreeSet::new());
            assert_eq!(exceptions.is_empty(), expected.is_none(), "{rule}");
            let Some(expected) = expected else {
                continue;
            };
            let edited = excepting(&raw, &exceptions);
            assert_eq!(
                edited,
                json!({
                    "metadata": {
                        "name": "admins",
                        "namespace": "shop",
                        "annotations": {"castoff.dev/excepted": principal},
                    },
                    "spec": {"action": "DENY", "rules": [expected]},
                })
            );
            assert_eq!(
                waypoint().denied_by(&edited, &BTreeSet::new()),
                [],
                "{rule}"
            );
            assert_eq!(excepting(&edited, &exceptions), edited, "{rule}");
            assert_eq!(
                restored(&edited).map(|one| one["spec"].clone()),
                Some(raw["spec"].clone())
            );
        }
        assert_eq!(restored(&deny(&json!([]))), None);
    }
}
