//! VirtualServices whose routes stand in others that they name as delegates.
//!
//! In: a VirtualService and all others. Out: it with its delegates' routes. Invariant: hosts of a delegate are full
//! names, since short ones are of its namespace; a rule whose delegate is not among the input, or not exported there,
//! keeps naming it; what a rule of the delegate takes, the root's takes, too
//! (istio pilot/pkg/model/virtualservice.go `mergeVirtualServicesIfNeeded`).

use std::sync::Arc;

use serde_json::{Map, Value};

use super::routing::full_host;
use crate::snapshot::Object;

/// A VirtualService with its delegates' routes; itself where it has none.
pub(super) fn merged(object: &Object<Value>, all: &[Object<Value>]) -> Arc<Value> {
    let rules = object.body["spec"]["http"].as_array();
    let rules = rules.filter(|rules| rules.iter().any(|rule| rule.get("delegate").is_some()));
    let Some(rules) = rules else {
        return Arc::clone(&object.body);
    };
    let own = object.metadata.namespace.as_str();
    let merged: Vec<Value> = rules
        .iter()
        .flat_map(|rule| match delegate_of(rule, own, all) {
            Some(delegate) => merged_rules(rule, delegate),
            None => vec![rule.clone()],
        })
        .collect();
    let mut body = Value::clone(&object.body);
    body["spec"]["http"] = merged.into();
    Arc::new(body)
}

fn delegate_of<'a>(rule: &Value, own: &str, all: &'a [Object<Value>]) -> Option<&'a Object<Value>> {
    let named = rule.get("delegate")?;
    let name = named["name"].as_str()?;
    let namespace = named["namespace"].as_str().filter(|one| !one.is_empty());
    let namespace = namespace.unwrap_or(own);
    let found = all.iter().find(|one| {
        one.metadata.namespace.as_str() == namespace && one.metadata.name.as_str() == name
    })?;
    let seen = found.body["spec"]["exportTo"].as_array();
    let is_seen = seen.is_none_or(|list| {
        list.iter()
            .any(|one| one == "*" || one == own || (one == "." && namespace == own))
    });
    is_seen.then_some(found)
}

/// The rules of a delegate, with what the root's says besides.
fn merged_rules(root: &Value, delegate: &Object<Value>) -> Vec<Value> {
    let mut inherited: Map<String, Value> = root.as_object().cloned().unwrap_or_default();
    inherited.remove("delegate");
    let rules = delegate.body["spec"]["http"].as_array().into_iter();
    rules
        .flatten()
        .filter_map(|rule| {
            let mut merged = inherited.clone();
            for (field, value) in rule.as_object().into_iter().flatten() {
                merged.insert(field.clone(), value.clone());
            }
            let list = |rule: &Value| {
                rule["match"]
                    .as_array()
                    .filter(|all| !all.is_empty())
                    .cloned()
            };
            if let (Some(of_root), Some(own)) = (list(root), list(rule)) {
                merged.insert("match".to_owned(), merged_matches(&of_root, &own)?.into());
            } else if let Some(of_root) = list(root) {
                merged.insert("match".to_owned(), of_root.into());
            }
            let mut merged = Value::Object(merged);
            for list in ["/route", "/mirrors"] {
                let targets = merged.pointer_mut(list).and_then(Value::as_array_mut);
                for target in targets.into_iter().flatten() {
                    qualify(
                        target.pointer_mut("/destination/host"),
                        &delegate.metadata.namespace,
                    );
                }
            }
            qualify(
                merged.pointer_mut("/mirror/host"),
                &delegate.metadata.namespace,
            );
            Some(merged)
        })
        .collect()
}

/// What matches of both ask; `None` where one of the delegate's is within none of the root's: its rule is left out
/// (`mergeHTTPMatchRequests`).
fn merged_matches(of_root: &[Value], own: &[Value]) -> Option<Vec<Value>> {
    let mut merged = Vec::new();
    for one in own {
        let within = of_root.iter().filter(|root| !is_conflict(root, one));
        let before = merged.len();
        merged.extend(within.map(|root| {
            let mut fields = root.as_object().cloned().unwrap_or_default();
            for (field, value) in one.as_object().into_iter().flatten() {
                let maps = ["headers", "withoutHeaders", "queryParams", "sourceLabels"];
                match (fields.get_mut(field), value) {
                    (Some(Value::Object(all)), Value::Object(own))
                        if maps.contains(&field.as_str()) =>
                    {
                        all.extend(own.clone());
                    }
                    _ => _ = fields.insert(field.clone(), value.clone()),
                }
            }
            Value::Object(fields)
        }));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

/// `hasConflict`.
fn is_conflict(root: &Value, leaf: &Value) -> bool {
    let differ = |field: &str| {
        let (root, leaf) = (&root[field], &leaf[field]);
        !root.is_null() && !leaf.is_null() && root != leaf
    };
    let texts = ["uri", "scheme", "method", "authority"];
    let maps = ["headers", "withoutHeaders", "queryParams"];
    let of_map = |field: &str| {
        let leaves = leaf[field].as_object().into_iter().flatten();
        let mut pairs = leaves.filter_map(|(key, leaf)| Some((root[field].get(key)?, leaf)));
        pairs.any(|(root, leaf)| is_text_conflict(root, leaf))
    };
    let labels = leaf["sourceLabels"].as_object().into_iter().flatten();
    let mut labels = labels.filter_map(|(key, leaf)| Some((root["sourceLabels"].get(key)?, leaf)));
    let list = |value: &Value| value["gateways"].as_array().cloned().unwrap_or_default();
    let (of_root, of_leaf) = (list(root), list(leaf));
    let folds = |value: &Value| value["ignoreUriCase"] == true;
    texts.iter().any(|field| {
        !root[*field].is_null()
            && !leaf[*field].is_null()
            && is_text_conflict(&root[*field], &leaf[*field])
    }) || maps.iter().any(|field| of_map(field))
        || folds(root) != folds(leaf)
        || differ("port")
        || (root["sourceNamespace"].is_string()
            && root["sourceNamespace"] != leaf["sourceNamespace"])
        || labels.any(|(root, leaf)| root != leaf)
        || (!of_root.is_empty() && of_leaf.iter().any(|one| !of_root.contains(one)))
}

/// `stringMatchConflict`, where both say something.
fn is_text_conflict(root: &Value, leaf: &Value) -> bool {
    let [of_root, of_leaf] = [root, leaf].map(|value| {
        let text = |field: &str| value[field].as_str().filter(|text| !text.is_empty());
        (text("exact"), text("prefix"), text("regex"))
    });
    match (of_root, of_leaf) {
        ((Some(exact), ..), (leaf, None, None)) => leaf != Some(exact),
        ((None, Some(prefix), None), (Some(leaf), None, None) | (None, Some(leaf), None)) => {
            !leaf.starts_with(prefix)
        }
        _ => true,
    }
}

fn qualify(host: Option<&mut Value>, namespace: &str) {
    if let Some(host) = host
        && let Some(text) = host.as_str()
    {
        *host = full_host(text, namespace).as_str().into();
    }
}
