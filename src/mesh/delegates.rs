//! VirtualServices whose routes stand in others that they name as delegates.
//!
//! In: a VirtualService and all others. Out: it with its delegates' routes. Invariant: hosts of a delegate are full
//! names, since short ones are of its namespace; a rule whose delegate is not among the input, or not exported there,
//! keeps naming it. Whether the matches of both exclude each other is not looked at
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
        .map(|rule| {
            let mut merged = inherited.clone();
            for (field, value) in rule.as_object().into_iter().flatten() {
                let mut value = value.clone();
                if let (true, Some(of_root), Some(own)) = (
                    field == "match",
                    root["match"].as_array(),
                    value.as_array_mut(),
                ) {
                    own.extend(of_root.iter().cloned());
                }
                merged.insert(field.clone(), value);
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
            merged
        })
        .collect()
}

fn qualify(host: Option<&mut Value>, namespace: &str) {
    if let Some(host) = host
        && let Some(text) = host.as_str()
    {
        *host = full_host(text, namespace).as_str().into();
    }
}
