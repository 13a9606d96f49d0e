//! # A policy says what another says
//!
//! ## What it finds
//!
//! AuthorizationPolicies of one namespace with the same selector or targets, action and rules as an
//! older one. Of each such group all but the oldest are offered; policies that were migrated, and those
//! that castoff wrote, are left to their own checks. Offered when no workload of the mesh has a sidecar
//! any more: it is no condition of moving.
//!
//! ## Why it matters
//!
//! The same rule twice is one rule at every proxy and at ztunnel. But who later edits or deletes one of
//! them finds that nothing changed.
//!
//! ## How to fix it
//!
//! Run the commands: all of them together, and each part of them, leave access as it is. Deleting the
//! one that stays as well does not.
//!
//! ## Since and source
//!
//! All releases: policies of one action are joined by *or* (istio
//! pilot/pkg/security/authz/builder/builder.go, `build`; ztunnel src/state.rs, `assert_rbac`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::convert::Purpose;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::AuthorizationPolicy;
use crate::needs::is_generated;
use crate::phases::policy_simplification::migrated::workloads_with_sidecars;
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::PolicySimplification,
    needs: &[],
    reads: &[Kind::AuthorizationPolicy],
    source: include_str!("duplicates.rs"),
    find,
};

const CODE: Code = Code("CAST0603");

fn find(context: &Context<'_>) -> Vec<Finding> {
    repeated(context)
        .into_iter()
        .map(|(one, stays)| {
            let kind = Kind::AuthorizationPolicy;
            let command = format!(
                "kubectl delete {} -n {} {}",
                kind.resource(),
                one.name.namespace,
                one.name.name
            );
            Finding::new(
                CODE,
                Level::Recommendation,
                format!(
                    "{} says what {stays} says and can be deleted: {command}",
                    kind.row().name
                ),
            )
            .about(kind, &one.name, Some(&one.origin))
            .remedy(Remedy::command_without_undo(command))
        })
        .collect()
}

/// Policies that say what an older one of their namespace says, with the name of that one.
pub(crate) fn repeated<'a>(
    context: &Context<'a>,
) -> Vec<(&'a AuthorizationPolicy, &'a ObjectName)> {
    let migrated: BTreeSet<&ObjectName> = context
        .conversion()
        .generated
        .iter()
        .filter_map(|one| match &one.purpose {
            Purpose::Copy { source, .. } => Some(&source.name),
            _ => None,
        })
        .collect();
    let mesh = context.mesh;
    if !workloads_with_sidecars(mesh).is_empty() {
        return Vec::new();
    }
    let mut groups: BTreeMap<[String; 4], Vec<&AuthorizationPolicy>> = BTreeMap::new();
    for one in &mesh.authorization_policies {
        let own = context.choice().includes(&one.name.namespace);
        if own && one.meaning.is_ok() && !is_generated(&one.labels) && !migrated.contains(&one.name)
        {
            groups.entry(says(one)).or_default().push(one);
        }
    }
    let mut found = Vec::new();
    for mut group in groups.into_values() {
        let created = |one: &AuthorizationPolicy| {
            let created = &one.raw["metadata"]["creationTimestamp"];
            created.as_str().map(str::to_owned)
        };
        group.sort_by_cached_key(|one| (created(one), one.name.clone()));
        if let Some((stays, others)) = group.split_first() {
            found.extend(others.iter().map(|one| (*one, &stays.name)));
        }
    }
    found.sort_by(|left, right| left.0.name.cmp(&right.0.name));
    found
}

/// Everything of a policy that decides, but for its name.
fn says(one: &AuthorizationPolicy) -> [String; 4] {
    let spec = &one.raw["spec"];
    let mut rest = spec.clone();
    if let Some(rest) = rest.as_object_mut() {
        rest.retain(|_, value| !value.is_null());
        rest.entry("action").or_insert_with(|| Value::from("ALLOW"));
    }
    let annotation = |key: &str| one.annotations.get(key).unwrap_or_default().to_owned();
    let label = |key: &str| one.labels.get(key).unwrap_or_default().to_owned();
    [
        one.name.namespace.to_string(),
        sorted(&rest).to_string(),
        annotation("istio.io/dry-run"),
        label("istio.io/rev"),
    ]
}

/// The same value with the fields of every object in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(key, one)| (key.clone(), sorted(one)))
                    .collect(),
            )
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
