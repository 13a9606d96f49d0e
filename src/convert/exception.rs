//! DENY policies that would turn a waypoint itself away, edited so that they except it.
//!
//! In: the user's policy and the waypoints that it denies. Out: the same object with these waypoints
//! among those not meant; and, of such an object, what the user wrote. Invariant: only sources that
//! match a waypoint change, and only by that exception: the waypoint enforces the copy.

use serde_json::{Map, Value, json};

/// Annotation with the identities that were excepted, separated by commas.
const EXCEPTED_ANNOTATION: &str = "castoff.dev/excepted";

/// The identity of a waypoint, as policies name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Excepted {
    /// `cluster.local/ns/shop/sa/waypoint`.
    pub(super) principal: String,
    /// `shop/waypoint`, where a source names service accounts: it may not name principals too
    /// (istio pkg/config/validation/agent/validation.go, `validateServiceAccounts`).
    pub(super) account: String,
}

/// The object with waypoints excepted in these sources: `spec.rules[0].from[1].source`.
pub(super) fn excepting(raw: &Value, sources: &[(usize, usize, Excepted)]) -> Value {
    let mut object = raw.clone();
    for (rule, from, excepted) in sources {
        let path = format!("/spec/rules/{rule}/from/{from}/source");
        let Some(source) = object.pointer_mut(&path).and_then(Value::as_object_mut) else {
            continue;
        };
        let (field, identity) = field_of(source, excepted);
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
    principals.extend(sources.iter().map(|(_, _, one)| one.principal.as_str()));
    principals.sort_unstable();
    principals.dedup();
    let note = principals.join(",");
    object["metadata"] = metadata(&raw["metadata"], note);
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object
}

/// What the user wrote of an object that castoff edited: the exceptions gone.
pub(super) fn restored(raw: &Value) -> Option<Value> {
    let excepted = excepted_in(raw);
    if excepted.is_empty() {
        return None;
    }
    let accounts: Vec<String> = excepted.iter().filter_map(|one| account(one)).collect();
    let mut object = raw.clone();
    let rules = object["spec"]["rules"].as_array_mut().into_iter().flatten();
    for source in rules
        .filter_map(|rule| rule["from"].as_array_mut())
        .flatten()
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

/// Name, labels and annotations, without what API servers and kubectl wrote.
fn metadata(metadata: &Value, note: String) -> Value {
    let mut kept = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = metadata.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    let annotations = kept.entry("annotations").or_insert_with(|| json!({}));
    if let Value::Object(annotations) = annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations.insert(EXCEPTED_ANNOTATION.to_owned(), json!(note));
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waypoint() -> Excepted {
        Excepted {
            principal: "cluster.local/ns/shop/sa/waypoint".to_owned(),
            account: "shop/waypoint".to_owned(),
        }
    }

    #[test]
    fn a_waypoint_is_excepted_and_what_the_user_wrote_comes_back() {
        let raw = json!({
            "metadata": {"name": "admins", "namespace": "shop", "uid": "1"},
            "spec": {"action": "DENY", "rules": [{"from": [
                {"source": {"notPrincipals": ["cluster.local/ns/ops/sa/admin"]}},
                {"source": {"namespaces": ["shop"]}},
                {"source": {"serviceAccounts": ["shop/*"]}},
            ]}]},
            "status": {},
        });
        let all = [(0, 0, waypoint()), (0, 1, waypoint()), (0, 2, waypoint())];
        let edited = excepting(&raw, &all);
        assert_eq!(
            edited,
            json!({
                "metadata": {
                    "name": "admins",
                    "namespace": "shop",
                    "annotations": {"castoff.dev/excepted": "cluster.local/ns/shop/sa/waypoint"},
                },
                "spec": {"action": "DENY", "rules": [{"from": [
                    {"source": {"notPrincipals": ["cluster.local/ns/ops/sa/admin", "cluster.local/ns/shop/sa/waypoint"]}},
                    {"source": {"namespaces": ["shop"], "notPrincipals": ["cluster.local/ns/shop/sa/waypoint"]}},
                    {"source": {"serviceAccounts": ["shop/*"], "notServiceAccounts": ["shop/waypoint"]}},
                ]}]},
            })
        );
        assert_eq!(excepting(&edited, &all), edited);
        assert_eq!(
            restored(&edited).map(|one| one["spec"].clone()),
            Some(raw["spec"].clone())
        );
        assert_eq!(restored(&raw), None);
    }
}
