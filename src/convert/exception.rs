//! DENY policies that would turn a waypoint itself away, edited so that they except it.
//!
//! In: the user's policy and the waypoints that it denies. Out: the same object with these waypoints
//! among those not meant, at the ports that they lead to; and, of such an object, what the user wrote.
//! Invariant: only sources that match a waypoint change, and only by that exception: the waypoint enforces the copy.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::edit::{self, Edited};
use super::remainder;
use crate::mesh::Waypoint;

/// Annotation with the identities that were excepted, separated by commas.
const EXCEPTED_ANNOTATION: &str = "castoff.dev/excepted";

/// Annotation with the ports at which they are, separated by commas; without it at all.
const PORTS_ANNOTATION: &str = "castoff.dev/excepted-ports";

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
    /// Ports that the waypoint leads to; `None`: not known, or all.
    ports: Option<BTreeSet<u16>>,
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
    /// meant for everybody and is left alone, but where `more` is denied at ztunnel than is written; so is what means
    /// other ports than those that the waypoint leads to.
    pub(super) fn denied_by(
        &self,
        policy: &Value,
        more: &BTreeSet<edit::Part>,
        ports: Option<&BTreeSet<u16>>,
    ) -> Vec<Exception> {
        if policy.pointer("/spec/action") != Some(&Value::from("DENY")) {
            return Vec::new();
        }
        let own = policy["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut found = Vec::new();
        for (rule, body) in list(&policy["spec"]["rules"]) {
            if ports.is_some_and(|ports| !remainder::means_any(body, ports)) {
                continue;
            }
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
                    ports: ports.cloned(),
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

/// The object with waypoints excepted in these places: behind each rule stands what is left of it at other ports.
pub(super) fn excepting(raw: &Value, exceptions: &[Exception]) -> Value {
    let mut object = raw.clone();
    let (mut rules, places) = without_remainders(raw);
    for exception in exceptions {
        let place = places.get(exception.rule).copied().flatten();
        if let Some(rule) = place.and_then(|place| rules.get_mut(place)) {
            except(rule, exception.from, &exception.waypoint);
        }
    }
    let mut principals: Vec<&str> = excepted_in(raw);
    principals.extend(exceptions.iter().map(|one| one.waypoint.principal.as_str()));
    principals.sort_unstable();
    principals.dedup();
    let ports = ports_after(raw, exceptions);
    let mut all = Vec::with_capacity(rules.len());
    for rule in rules {
        let rest = ports
            .as_ref()
            .and_then(|ports| remainder_of(&rule, &principals, ports));
        all.push(rule);
        all.extend(rest);
    }
    if object["spec"]["rules"].is_array() {
        object["spec"]["rules"] = Value::Array(all);
    }
    object["metadata"] = metadata(&raw["metadata"], &principals, ports.as_ref());
    edit::without_status(object)
}

/// The ports at which waypoints are excepted then; `None`: at all.
fn ports_after(raw: &Value, exceptions: &[Exception]) -> Option<BTreeSet<u16>> {
    let known = ports_in(raw);
    if known.is_none() && !excepted_in(raw).is_empty() {
        return None;
    }
    let mut all = known.unwrap_or_default();
    for exception in exceptions {
        all.extend(exception.ports.as_ref()?);
    }
    (!all.is_empty()).then_some(all)
}

fn except(rule: &mut Value, from: Option<usize>, waypoint: &Excepted) {
    if from.is_none() && list(&rule["from"]).next().is_none() {
        rule["from"] = json!([{"source": {}}]);
    }
    let source = &mut rule["from"][from.unwrap_or(0)]["source"];
    let Some(source) = source.as_object_mut() else {
        return;
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

/// What the user wrote of an object that castoff edited: the exceptions gone, and what stands behind them.
pub(super) fn restored(raw: &Value) -> Option<Value> {
    let excepted = excepted_in(raw);
    if excepted.is_empty() {
        return None;
    }
    let mut object = raw.clone();
    if object["spec"]["rules"].is_array() {
        let (rules, _) = without_remainders(raw);
        let rules = rules.iter().map(|rule| as_written(rule, &excepted).0);
        object["spec"]["rules"] = rules.collect();
    }
    Some(object)
}

/// The rules but for those that say what is left of the one before, and for each of all its place among these:
/// that of the rule before, where it is left out.
fn without_remainders(raw: &Value) -> (Vec<Value>, Vec<Option<usize>>) {
    let excepted = excepted_in(raw);
    let ports = ports_in(raw);
    let mut kept: Vec<Value> = Vec::new();
    let mut places = Vec::new();
    for (_, rule) in list(&raw["spec"]["rules"]) {
        let before = kept.last().zip(ports.as_ref());
        let rest = before.and_then(|(before, ports)| remainder_of(before, &excepted, ports));
        if rest.as_ref() == Some(rule) {
            places.push(None);
        } else {
            places.push(Some(kept.len()));
            kept.push(rule.clone());
        }
    }
    (kept, places)
}

/// What is left, at other ports, of a rule from which waypoints are excepted.
fn remainder_of(rule: &Value, excepted: &[&str], ports: &BTreeSet<u16>) -> Option<Value> {
    let (written, sources) = as_written(rule, excepted);
    remainder::of(&written, &sources?, ports)
}

/// A rule without exceptions, and which of its sources had one; `None` where none has.
fn as_written(rule: &Value, excepted: &[&str]) -> (Value, Option<BTreeSet<usize>>) {
    let accounts: Vec<String> = excepted.iter().filter_map(|one| account(one)).collect();
    let mut rule = rule.clone();
    let mut found = BTreeSet::new();
    let Some(sources) = rule.get_mut("from").and_then(Value::as_array_mut) else {
        return (rule, None);
    };
    for (at, source) in sources.iter_mut().enumerate() {
        let Some(source) = source["source"].as_object_mut() else {
            continue;
        };
        for field in ["notPrincipals", "notServiceAccounts"] {
            let Some(Value::Array(list)) = source.get_mut(field) else {
                continue;
            };
            let all = list.len();
            list.retain(|one| {
                let one = one.as_str().unwrap_or_default();
                !excepted.contains(&one) && !accounts.iter().any(|account| account == one)
            });
            if list.len() < all {
                found.insert(at);
            }
            if list.is_empty() {
                source.remove(field);
            }
        }
    }
    // Nobody writes an empty source: it was made for the exception.
    let made = |from: &Value| from["source"].as_object().is_some_and(|it| it.is_empty());
    sources.retain(|from| !made(from));
    if sources.is_empty()
        && let Some(rule) = rule.as_object_mut()
    {
        rule.remove("from");
    }
    let sources = (!found.is_empty()).then_some(found);
    (rule, sources)
}

fn ports_in(raw: &Value) -> Option<BTreeSet<u16>> {
    let note = raw["metadata"]["annotations"][PORTS_ANNOTATION].as_str()?;
    note.split(',').map(|port| port.parse().ok()).collect()
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

/// That of the object, with the note of who is excepted, and where.
fn metadata(metadata: &Value, excepted: &[&str], ports: Option<&BTreeSet<u16>>) -> Value {
    let mut kept = edit::metadata(metadata);
    if !excepted.is_empty() {
        let annotations = kept.entry("annotations").or_insert_with(|| json!({}));
        annotations[EXCEPTED_ANNOTATION] = json!(excepted.join(","));
        if let Some(ports) = ports {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            annotations[PORTS_ANNOTATION] = json!(ports.join(","));
        }
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
        let exceptions = waypoint().denied_by(&raw, &more, None);
        let because: Vec<Edited> = exceptions.iter().map(|one| one.because).collect();
        assert_eq!(because, [Edited::DeniesMoreAtZtunnel]);
        let edited = excepting(&raw, &exceptions);
        assert_eq!(
            edited["spec"]["rules"][0],
            json!({"to": to, "from": [{"source": {"notPrincipals": [principal]}}]})
        );
        let again = BTreeSet::from([(0, Some(0)), (1, Some(0))]);
        assert_eq!(waypoint().denied_by(&edited, &again, None), []);
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
            let exceptions = waypoint().denied_by(&raw, &BTreeSet::new(), None);
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
                waypoint().denied_by(&edited, &BTreeSet::new(), None),
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

    #[test]
    fn at_ports_that_a_waypoint_does_not_lead_to_it_is_denied_as_before() {
        let principal = "cluster.local/ns/shop/sa/waypoint";
        let ops = json!({"source": {"principals": ["cluster.local/ns/ops/sa/admin"]}});
        let mine = json!({"source": {"namespaces": ["shop"]}});
        let excepted = json!({"source": {"namespaces": ["shop"], "notPrincipals": [principal]}});
        let other = json!({"from": [mine], "to": [{"operation": {"ports": ["9090"]}}]});
        let raw = deny(&json!([{"from": [ops, mine]}, other]));
        let edited = |raw: &Value, ports: &[u16]| {
            let ports = ports.iter().copied().collect();
            let exceptions = waypoint().denied_by(raw, &BTreeSet::new(), Some(&ports));
            (!exceptions.is_empty()).then(|| excepting(raw, &exceptions))
        };
        let once = edited(&raw, &[8080]).unwrap_or_default();
        let rest = json!({"from": [mine], "to": [{"operation": {"notPorts": ["8080"]}}]});
        assert_eq!(
            once["spec"]["rules"],
            json!([{"from": [ops, excepted]}, rest, other])
        );
        assert_eq!(
            once["metadata"]["annotations"]["castoff.dev/excepted-ports"],
            "8080"
        );
        assert_eq!(edited(&once, &[8080]), None);
        // A port more, and the same as had both been known at once.
        let both = edited(&raw, &[8080, 9090]);
        assert_eq!(edited(&once, &[8080, 9090]), both);
        for one in [Some(once), both].iter().flatten() {
            assert_eq!(
                restored(one).map(|one| one["spec"].clone()),
                Some(raw["spec"].clone())
            );
        }
    }
}
