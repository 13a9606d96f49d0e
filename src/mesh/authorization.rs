//! An AuthorizationPolicy as JSON to the words of `castoff_authz`.
//!
//! In: one object. Out: its [`Policy`], or every place of it that is not understood. Invariant: no
//! field is passed over; what is not in Istio's schema (1.25 to 1.31) is named with its path. Texts
//! are taken over unread: a value or key that istiod cannot translate (an unknown `when` key, a bad
//! port, a bad address) is kept, and the evaluator does with it what istiod does, which is to skip
//! the rule of an ALLOW and the value of a DENY (istio `pilot/pkg/security/authz/model/model.go`).
//! Paths start below `spec`, those elsewhere at the object.

mod fields;
mod rules;
#[cfg(test)]
mod tests;

use castoff_authz::policy::{Action, Policy, PolicyName};
use serde_json::Value;
use smol_str::SmolStr;

use self::fields::Reader;
use super::policy::{HttpField, Misunderstanding};
use crate::snapshot::{Labels, Object, ObjectName};

/// Moves a policy to the shadow rules (istio.io/docs/tasks/security/authorization/authz-dry-run).
pub const DRY_RUN: &str = "istio.io/dry-run";

/// What an AuthorizationPolicy decides.
///
/// # Errors
/// Every field that Istio's schema does not have, and every value of a type that it does not take.
pub fn translate(object: &Object<Value>) -> Result<Policy, Vec<Misunderstanding>> {
    let mut reader = Reader::default();
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    reader.known_fields(&object.body, "", &known);
    let policy = policy(
        &object.object_name(),
        &object.metadata.annotations,
        &object.body["spec"],
        &mut reader,
    );
    reader.into_result(policy)
}

/// What a policy with this name, these annotations and this `spec` decides.
///
/// # Errors
/// As [`translate`].
pub fn translate_spec(
    name: &ObjectName,
    annotations: &Labels,
    spec: &Value,
) -> Result<Policy, Vec<Misunderstanding>> {
    let mut reader = Reader::default();
    let policy = policy(name, annotations, spec, &mut reader);
    reader.into_result(policy)
}

fn policy(name: &ObjectName, annotations: &Labels, spec: &Value, reader: &mut Reader) -> Policy {
    let known = [
        "selector",
        "targetRef",
        "targetRefs",
        "rules",
        "action",
        "provider",
    ];
    reader.known_fields(spec, "", &known);
    attachment(spec, reader);
    Policy {
        name: PolicyName {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        },
        action: action(spec, reader),
        dry_run: annotations.get(DRY_RUN).is_some_and(is_true),
        rules: reader.list(&spec["rules"], "rules", rules::rule),
    }
}

/// Reads nothing, but names what the schema does not have: a selector that is not understood must not
/// pass for one that selects all.
fn attachment(spec: &Value, reader: &mut Reader) {
    reader.known_fields(&spec["selector"], "selector", &["matchLabels"]);
    let known = ["group", "kind", "name", "namespace"];
    reader.known_fields(&spec["targetRef"], "targetRef", &known);
    reader.list(&spec["targetRefs"], "targetRefs", |target, path, reader| {
        reader.known_fields(target, path, &known);
    });
}

/// Without a `provider` a CUSTOM policy names the authorizer with the empty name, which does not exist;
/// a provider beside another action has no meaning (`builder.go:build`).
fn action(spec: &Value, reader: &mut Reader) -> Action {
    reader.known_fields(&spec["provider"], "provider", &["name"]);
    let provider = reader.text(&spec["provider"]["name"], "provider.name");
    match reader.text(&spec["action"], "action").as_deref() {
        None | Some("ALLOW") => Action::Allow,
        Some("DENY") => Action::Deny,
        Some("AUDIT") => Action::Audit,
        Some("CUSTOM") => Action::Custom {
            provider: provider.unwrap_or_default(),
        },
        Some(other) => {
            reader.misunderstand(
                "action",
                format!("`{other}` is none of ALLOW, DENY, AUDIT, CUSTOM"),
            );
            Action::Allow
        }
    }
}

/// Go's `strconv.ParseBool`, with which istiod reads the annotation; what it cannot parse counts as
/// false, so the policy is enforced (`builder.go:isDryRun`).
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&text)
}

/// The fields that ztunnel cannot check, in the order of the rules (istio
/// `pilot/pkg/serviceregistry/ambient/authorization.go`, `httpOperations`, `httpSources`,
/// `l4WhenAttributes`). `trustDomains` is none of them for istiod, which drops it unsaid; it is listed
/// here, because ztunnel does not check it either.
pub fn http_fields(spec: &Value) -> Vec<HttpField> {
    let mut found = Vec::new();
    for (index, rule) in items(&spec["rules"]) {
        let from = items(&rule["from"]).map(|(at, entry)| ("from", at, "source", entry));
        let to = items(&rule["to"]).map(|(at, entry)| ("to", at, "operation", entry));
        for (part, at, inner, entry) in from.chain(to) {
            let l4: &[&str] = if part == "from" {
                &[
                    "principals",
                    "notPrincipals",
                    "namespaces",
                    "notNamespaces",
                    "serviceAccounts",
                    "notServiceAccounts",
                    "ipBlocks",
                    "notIpBlocks",
                ]
            } else {
                &["ports", "notPorts"]
            };
            for (name, values) in entry[inner].as_object().into_iter().flatten() {
                let written = values.as_array().is_none_or(|values| !values.is_empty());
                if !l4.contains(&name.as_str()) && !values.is_null() && written {
                    found.push(HttpField {
                        name: SmolStr::from(name),
                        path: format!("rules[{index}].{part}[{at}].{inner}.{name}").into(),
                    });
                }
            }
        }
        for (at, condition) in items(&rule["when"]) {
            let key = condition["key"].as_str().unwrap_or_default();
            let l4 = [
                "source.ip",
                "source.namespace",
                "source.principal",
                "destination.ip",
                "destination.port",
            ];
            if !l4.contains(&key) {
                found.push(HttpField {
                    name: key.into(),
                    path: format!("rules[{index}].when[{at}]").into(),
                });
            }
        }
    }
    found
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}
