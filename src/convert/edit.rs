//! The user's own policies, edited where ztunnel reads them otherwise than sidecars do.
//!
//! In: a policy as the user wrote it. Out: the same object in words that both read alike, and why.
//! Invariant: at sidecars these edits change nothing for any request, and what istiod does not send
//! to ztunnel is left alone. Those that except a waypoint are in [`super::exception`].

use std::collections::BTreeSet;

use castoff_authz::settings::{Release, Settings};
use castoff_authz::ztunnel::{Group, project_for_ztunnel};
use serde_json::{Map, Value, json};
use smol_str::SmolStr;

use super::Purpose;
use super::place::{Draft, Pending};
use crate::mesh::{
    Attachment, AuthorizationPolicy, DataPlaneMode, Mesh, MeshSettings, ObjectReference,
};
use crate::needs::{Choice, covers_pods};
use crate::snapshot::{Kind, Labels};

/// Why an object of the user's is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edited {
    /// Its sources mean the waypoint too.
    DeniesWaypoint,
    /// Of a DENY, ztunnel is sent only what is not about requests, which the waypoint meets
    /// (istio pilot/pkg/serviceregistry/ambient/authorization.go, `handleRule`).
    DeniesMoreAtZtunnel,
    /// `selector: {}` selects all at sidecars (istio pilot/pkg/model/policyattachment.go,
    /// `isSelected`) and nothing at ztunnel (pilot/pkg/serviceregistry/ambient/workloads.go,
    /// `buildWorkloadPolicies`).
    EmptySelector,
    /// Sidecars read a name in an alias of the trust domain, or in `cluster.local`, as one in any of them
    /// (istio pilot/pkg/security/trustdomain/bundle.go, `ReplaceTrustDomainAliases`); ztunnel is
    /// sent the name as it is.
    TrustDomainAlias,
    /// A mode that is inherited, which ztunnel is not told with the ports that differ
    /// (istio pilot/pkg/serviceregistry/ambient/authorization.go, `convertedSelectorPeerAuthentications`).
    InheritedMode,
}

impl Edited {
    /// In a sentence without a full stop.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DeniesWaypoint => {
                "it would deny what comes through the waypoint, where its copy is enforced; the waypoint is excepted"
            }
            Self::DeniesMoreAtZtunnel => {
                "ztunnel cannot check requests and would deny everybody what is left of it, the waypoint too, where its \
                 copy is enforced; the waypoint is excepted"
            }
            Self::EmptySelector => {
                "ztunnel applies a policy with an empty selector to nothing; without the selector it means the whole \
                 namespace to sidecars and to ztunnel"
            }
            Self::TrustDomainAlias => {
                "ztunnel knows no aliases of the trust domain; callers are named in the trust domain itself, which \
                 sidecars read as all of them"
            }
            Self::InheritedMode => {
                "ztunnel does not honour its ports while STRICT is inherited; the mode is written out, and from then on \
                 does not follow that of the namespace or the mesh"
            }
        }
    }
}

/// An object of the user's in other words.
pub(super) struct Rewritten {
    pub(super) object: Value,
    pub(super) because: Vec<Edited>,
}

/// What istiod makes of a policy for ztunnel, rule by rule; `None` where ztunnel is not sent it.
/// Only the policy's own words matter here, none of the mesh's settings.
pub(super) fn sent(policy: &castoff_authz::policy::Policy) -> Option<Vec<Group<'_>>> {
    let any = Settings::of(Release {
        minor: 31,
        patch: 0,
    });
    project_for_ztunnel(policy, &any).map(|projection| projection.groups)
}

/// Whether a rule can match at ztunnel: of each part something is left.
pub(super) fn can_match(group: &Group<'_>) -> bool {
    let left =
        |part: &castoff_authz::ztunnel::Rules<'_>| part.matches.iter().any(|one| !one.is_empty());
    group.rules.iter().all(left)
}

/// A rule, and one of its sources, both by position; no source where it has none.
pub(super) type Part = (usize, Option<usize>);

/// Where ztunnel denies more than a DENY says, since what is about requests is gone of the rule and
/// something is left.
pub(super) fn denied_more(policy: &AuthorizationPolicy) -> BTreeSet<Part> {
    if policy.http_fields.is_empty() || !denies(policy) {
        return BTreeSet::new();
    }
    let groups = policy
        .meaning
        .as_ref()
        .ok()
        .and_then(|meaning| sent(meaning));
    let dropped = |rule: usize| {
        let path = format!("rules[{rule}].");
        let mut fields = policy.http_fields.iter();
        fields.any(|field| field.path.starts_with(&path))
    };
    let mut found = BTreeSet::new();
    for group in groups.iter().flatten() {
        if !can_match(group) || !dropped(group.rule) {
            continue;
        }
        let from = group
            .rules
            .iter()
            .find(|part| part.part == castoff_authz::enforced::Part::From);
        match from {
            None => {
                found.insert((group.rule, None));
            }
            Some(from) => {
                let left = from.matches.iter().enumerate();
                let left = left.filter(|(_, one)| !one.is_empty());
                found.extend(left.map(|(at, _)| (group.rule, Some(at))));
            }
        }
    }
    found
}

fn denies(policy: &AuthorizationPolicy) -> bool {
    policy.raw.pointer("/spec/action") == Some(&Value::from("DENY"))
}

/// An AuthorizationPolicy of pods with sidecars as ztunnel should read it; `None` where it reads it so.
pub(super) fn for_ztunnel(
    mesh: &Mesh,
    choice: &Choice<'_>,
    policy: &AuthorizationPolicy,
) -> Option<Rewritten> {
    let selects_nothing = policy.attachment
        == Attachment::EmptySelector {
            match_labels_written: false,
        };
    let settings = &mesh.settings;
    let names_differ =
        settings.trust_domain != "cluster.local" || !settings.trust_domain_aliases.is_empty();
    if !selects_nothing && !names_differ {
        return None;
    }
    let meaning = policy.meaning.as_ref().ok()?;
    let groups = sent(meaning)?;
    let rules: Vec<usize> = groups
        .iter()
        .filter(|group| can_match(group))
        .map(|group| group.rule)
        .collect();
    let mut object = (*policy.raw).clone();
    let mut because = Vec::new();
    if selects_nothing && !(denies(policy) && rules.is_empty()) {
        // Not left out but null, so that `kubectl apply` and kustomize take it away.
        object["spec"]["selector"] = Value::Null;
        because.push(Edited::EmptySelector);
    }
    if rename(&mut object, &rules, settings) {
        because.push(Edited::TrustDomainAlias);
    }
    let concerned = || {
        let namespace = &policy.name.namespace;
        has_sidecars(mesh, |pods, labels| {
            choice.includes(pods) && covers_pods(mesh, &policy.attachment, namespace, pods, labels)
        })
    };
    (!because.is_empty() && concerned()).then_some(Rewritten { object, because })
}

/// PeerAuthentications whose ports ztunnel would not honour, with the mode that they inherit.
pub(super) fn write_out_modes(draft: &mut Draft<'_>, choice: &Choice<'_>) {
    let mesh = draft.mesh;
    for one in &mesh.peer_authentications {
        let Some(selector) = &one.selector else {
            continue;
        };
        let concerned = || {
            has_sidecars(mesh, |namespace, labels| {
                *namespace == one.name.namespace && labels.selected_by(selector)
            })
        };
        if !choice.includes(&one.name.namespace)
            || !mesh.inherited_mode_is_lost(one)
            || !concerned()
        {
            continue;
        }
        let mut object = (*one.raw).clone();
        object["spec"]["mtls"] = json!({"mode": "STRICT"});
        object["metadata"] = Value::Object(metadata(&one.raw["metadata"]));
        draft.pending.push(Pending {
            kind: Kind::PeerAuthentication,
            namespace: one.name.namespace.clone(),
            name: one.name.name.to_string(),
            purpose: Purpose::Edit {
                source: ObjectReference {
                    kind: Kind::PeerAuthentication,
                    name: one.name.clone(),
                    origin: one.origin.clone(),
                },
                because: vec![Edited::InheritedMode],
            },
            services: Vec::new(),
            manifest: without_status(object),
        });
    }
}

/// Name, labels and annotations, without what API servers and kubectl wrote.
pub(super) fn metadata(metadata: &Value) -> Map<String, Value> {
    let mut kept = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = metadata.get(field) {
            kept.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(Value::Object(annotations)) = kept.get_mut("annotations") {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    kept
}

/// The object without what controllers wrote.
pub(super) fn without_status(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    object
}

fn has_sidecars(mesh: &Mesh, covers: impl Fn(&SmolStr, &Labels) -> bool) -> bool {
    mesh.workloads.iter().any(|workload| {
        workload.is_mesh_application()
            && workload.has_mode(DataPlaneMode::Sidecar)
            && workload
                .generations
                .iter()
                .any(|generation| covers(&workload.name.namespace, &generation.labels))
    })
}

/// Names callers in the trust domain itself in these rules; whether anything changed.
fn rename(object: &mut Value, rules: &[usize], settings: &MeshSettings) -> bool {
    let mut changed = false;
    for rule in rules {
        let Some(rule) = object.pointer_mut(&format!("/spec/rules/{rule}")) else {
            continue;
        };
        let mut lists = Vec::new();
        let (mut sources, mut conditions) = (Vec::new(), Vec::new());
        for (part, entries) in rule.as_object_mut().into_iter().flatten() {
            match (part.as_str(), entries.as_array_mut()) {
                ("from", Some(entries)) => sources.extend(entries),
                ("when", Some(entries)) => conditions.extend(entries),
                _ => {}
            }
        }
        for source in sources {
            for (field, list) in source["source"].as_object_mut().into_iter().flatten() {
                if field == "principals" || field == "notPrincipals" {
                    lists.push(list);
                }
            }
        }
        for condition in conditions {
            if condition["key"] != "source.principal" {
                continue;
            }
            for (field, list) in condition.as_object_mut().into_iter().flatten() {
                if field == "values" || field == "notValues" {
                    lists.push(list);
                }
            }
        }
        for list in lists.into_iter().filter_map(Value::as_array_mut) {
            let mut names: Vec<Value> = Vec::with_capacity(list.len());
            for name in list.iter() {
                let renamed = name.as_str().and_then(|name| renamed(name, settings));
                changed |= renamed.is_some();
                let name = renamed.map_or_else(|| name.clone(), Value::from);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            *list = names;
        }
    }
    changed
}

/// The name in the mesh's trust domain, if it is in another that sidecars take for it. A name of other
/// than five parts is taken by the letter everywhere (`replaceTrustDomainInPrincipal`).
fn renamed(principal: &str, settings: &MeshSettings) -> Option<String> {
    let (domain, rest) = principal.split_once('/')?;
    let known = domain == "cluster.local"
        || settings
            .trust_domain_aliases
            .iter()
            .any(|one| one == domain);
    let own = settings.trust_domain.as_str();
    (known && domain != own && !own.contains('*') && principal.split('/').count() == 5)
        .then(|| format!("{own}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_in_the_trust_domain_where_sidecars_take_it_for_one() {
        let settings = MeshSettings {
            trust_domain: "corp.example".into(),
            trust_domain_aliases: vec!["old.example".into()],
            ..MeshSettings::default()
        };
        let renamed = |name: &str| super::renamed(name, &settings);
        for name in ["old.example/ns/desk/sa/*", "cluster.local/ns/desk/sa/web"] {
            let (_, rest) = name.split_once('/').unwrap_or_default();
            assert_eq!(
                renamed(name),
                Some(format!("corp.example/{rest}")),
                "{name}"
            );
        }
        for name in [
            "corp.example/ns/desk/sa/web",
            "other.example/ns/desk/sa/web",
            "*/ns/desk/sa/web",
            "old.example/ns/*",
            "*",
        ] {
            assert_eq!(renamed(name), None, "{name}");
        }
    }

    #[test]
    fn of_a_denial_of_requests_that_counts_which_ztunnel_is_left_with() {
        let policy = |rule: Value| {
            let text = json!({
                "apiVersion": "security.istio.io/v1",
                "kind": "AuthorizationPolicy",
                "metadata": {"name": "a", "namespace": "shop"},
                "spec": {"action": "DENY", "rules": [rule]},
            });
            let (mesh, _) = crate::phases::testing::read(&text.to_string());
            denied_more(&mesh.authorization_policies[0])
        };
        let post = json!({"operation": {"methods": ["POST"]}});
        let port = json!({"operation": {"ports": ["8080"]}});
        let both = json!({"operation": {"ports": ["8080"], "methods": ["POST"]}});
        let token = json!({"source": {"notRequestPrincipals": ["*"]}});
        let caller = json!({"source": {"namespaces": ["*"], "notRequestPrincipals": ["*"]}});
        for (rule, expected) in [
            (json!({"to": [both]}), BTreeSet::from([(0, None)])),
            (json!({"to": [post, port]}), BTreeSet::from([(0, None)])),
            (
                json!({"from": [token, caller]}),
                BTreeSet::from([(0, Some(1))]),
            ),
            (json!({"to": [post]}), BTreeSet::new()),
            (json!({"to": [port]}), BTreeSet::new()),
            (json!({"from": [token], "to": [port]}), BTreeSet::new()),
            (
                json!({"to": [both], "when": [{"key": "request.headers[a]", "values": ["b"]}]}),
                BTreeSet::new(),
            ),
        ] {
            assert_eq!(policy(rule.clone()), expected, "{rule}");
        }
    }

    #[test]
    fn rules_that_ztunnel_does_not_get_keep_their_names() {
        let settings = MeshSettings {
            trust_domain: "corp.example".into(),
            ..MeshSettings::default()
        };
        let rule = json!({
            "from": [{"source": {"notPrincipals": ["cluster.local/ns/a/sa/b", "corp.example/ns/a/sa/b"]}}],
            "when": [
                {"key": "source.principal", "values": ["cluster.local/ns/c/sa/d"]},
                {"key": "source.namespace", "values": ["cluster.local/ns/c/sa/d"]},
            ],
        });
        let mut object = json!({"spec": {"rules": [rule.clone(), rule.clone()]}});
        assert!(rename(&mut object, &[1], &settings));
        let expected = json!({
            "from": [{"source": {"notPrincipals": ["corp.example/ns/a/sa/b"]}}],
            "when": [
                {"key": "source.principal", "values": ["corp.example/ns/c/sa/d"]},
                {"key": "source.namespace", "values": ["cluster.local/ns/c/sa/d"]},
            ],
        });
        assert_eq!(object, json!({"spec": {"rules": [rule, expected]}}));
        assert!(!rename(&mut object, &[1], &settings));
    }
}
