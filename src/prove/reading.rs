//! What the mesh's settings and objects mean for a path: release, flags, protocols of ports.

use std::collections::BTreeSet;

use castoff_authz::path::ANY_OTHER_PORT;
use castoff_authz::policy::{Action, Policy, Rule, Source};
use castoff_authz::settings::{Authorizer, Behaviour, Release, Settings};

use super::Server;
use super::attach::Unmodelled;
use crate::mesh::{ControlPlane, Mesh, Protocol, WaypointId, Workload};
use crate::snapshot::{Kind, Labels};

/// The oldest release that can be migrated; taken where no istiod shows its version.
const OLDEST: Release = Release {
    minor: 25,
    patch: 0,
};

/// Settings for the evaluator: trust domain, authorizers, what the oldest istiod does.
pub fn authorization_settings(mesh: &Mesh) -> Settings {
    let release = mesh
        .control_planes
        .iter()
        .filter_map(|control_plane| control_plane.version.as_ref())
        .min()
        .map_or(OLDEST, |version| Release {
            minor: small(version.minor),
            patch: small(version.patch),
        });
    let mut behaviour = Behaviour::of(release);
    behaviour.multiple_custom_providers = every(mesh, |one| {
        one.flag("PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", false)
    });
    Settings {
        trust_domain: mesh.settings.trust_domain.to_string(),
        trust_domain_aliases: mesh
            .settings
            .trust_domain_aliases
            .iter()
            .map(ToString::to_string)
            .collect(),
        behaviour,
        authorizers_known: mesh.settings.origin.is_some(),
        authorizers: mesh
            .settings
            .extension_providers
            .iter()
            .map(|(name, provider)| Authorizer {
                name: name.to_string(),
                http_only: provider.kind == "envoyExtAuthzHttp",
                definition: provider.definition.clone(),
            })
            .collect(),
    }
}

fn small(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Whether sidecars and gateways send HBONE to ambient pods: `PILOT_ENABLE_AMBIENT`
/// (istio pilot/pkg/features/ambient.go, `PILOT_ENABLE_SENDING_HBONE` follows it).
pub fn sends_hbone(mesh: &Mesh) -> bool {
    every(mesh, |one| {
        one.flag("PILOT_ENABLE_SENDING_HBONE", one.ambient_enabled())
    })
}

/// Whether sidecars prefer HBONE among themselves: `PILOT_PREFER_SENDING_HBONE`, off by default.
pub fn prefers_hbone(mesh: &Mesh) -> bool {
    sends_hbone(mesh) && every(mesh, |one| one.flag("PILOT_PREFER_SENDING_HBONE", false))
}

fn every(mesh: &Mesh, holds: impl Fn(&ControlPlane) -> bool) -> bool {
    !mesh.control_planes.is_empty() && mesh.control_planes.iter().all(holds)
}

/// What a sidecar takes an inbound port for. Where several Services lead to it, the oldest decides
/// (istio pilot/pkg/networking/core/listener_inbound.go `buildInboundChainConfigs`); without age,
/// the first by name. A port of no Service is sniffed.
pub fn inbound_protocol(mesh: &Mesh, server: Server) -> Protocol {
    mesh.services_of(server.workload)
        .filter_map(|(_, service)| {
            let backend = service.backends.iter().find(|backend| {
                backend.workload == server.workload && backend.generation == server.generation
            })?;
            let index = backend
                .target_ports
                .iter()
                .position(|target| *target == Some(server.port))?;
            Some((
                (service.created.clone(), &service.name),
                service.ports[index].protocol,
            ))
        })
        .min_by(|(left, _), (right, _)| left.cmp(right))
        .map_or(Protocol::Unknown, |(_, protocol)| protocol)
}

/// `PILOT_AUTO_ALLOW_WAYPOINT_POLICY` (off by default): the ALLOW policies that let a pod's waypoints in,
/// and with that nobody else whom no other ALLOW names (istio
/// pilot/pkg/serviceregistry/ambient/policies.go `implicitWaypointPolicy`). Where istiods differ it is
/// taken to be on. Istio leaves out waypoints that have no pods yet; here they count.
pub fn implicit_waypoint_policies(mesh: &Mesh, server: Server) -> Vec<Policy> {
    let on = |one: &ControlPlane| one.flag("PILOT_AUTO_ALLOW_WAYPOINT_POLICY", false);
    if !mesh.control_planes.iter().any(on) {
        return Vec::new();
    }
    waypoints_of(mesh, server)
        .into_iter()
        .map(|id| {
            let waypoint = mesh.waypoint(id);
            let rule = Rule {
                from: vec![Source {
                    principals: vec![waypoint.principal(&mesh.settings.trust_domain)],
                    ..Source::default()
                }],
                ..Rule::default()
            };
            let name = &waypoint.name;
            let policy = format!("istio_allow_waypoint_{}_{}", name.namespace, name.name);
            Policy::new(&name.namespace, &policy, Action::Allow, vec![rule])
        })
        .collect()
}

/// The waypoints of the Services in front of a server, and of its pods.
pub fn waypoints_of(mesh: &Mesh, server: Server) -> BTreeSet<WaypointId> {
    let by_service = mesh
        .services_of(server.workload)
        .filter_map(|(_, service)| service.binding.waypoint());
    let by_pod = mesh
        .workload_binding(server.workload, server.generation)
        .waypoint();
    by_service.chain(by_pod).collect()
}

/// An annotation that keeps a port, or all, from being redirected to the sidecar, so that nothing of it applies
/// there, and a client's mutual TLS meets the application (istio
/// tools/istio-iptables/pkg/capture/run.go). What then gets through is not modelled.
pub fn past_sidecar(mesh: &Mesh, server: Server) -> Option<Unmodelled> {
    let workload = mesh.workload(server.workload);
    if let Some(mode) = mesh.interception_mode(workload)
        && mode.value == "NONE"
    {
        return Some(Unmodelled {
            reason: format!("{} NONE takes everything past the sidecar", mode.by),
            content: String::new(),
        });
    }
    if let Some(interfaces) = mesh.excluded_interfaces(workload) {
        return Some(Unmodelled {
            reason: format!(
                "{} takes what comes by these interfaces past the sidecar",
                interfaces.by
            ),
            content: interfaces.value,
        });
    }
    let port = server.port.to_string();
    let named = |text: &str| text.split(',').any(|one| one.trim() == port);
    let setting = |name: &str| mesh.redirection(workload, server.generation, name);
    let found = match setting("includeInboundPorts") {
        Some(included) if included.value != "*" => Some(included).filter(|one| !named(&one.value)),
        _ => setting("excludeInboundPorts").filter(|one| named(&one.value)),
    }?;
    let port = if server.port == ANY_OTHER_PORT {
        "any other port".to_owned()
    } else {
        format!("port {port}")
    };
    Some(Unmodelled {
        reason: format!("{} takes {port} past the sidecar", found.by),
        content: found.value,
    })
}

/// What makes a sidecar take, or be sent, something else than its mesh's settings say: its proxy's own
/// configuration about HBONE, the label by which senders choose TLS, an istiod that lets no sidecar listen for HBONE
/// (istio pilot/pkg/model/service.go `GetTLSModeFromEndpointLabels`, pilot/pkg/features/ambient.go
/// `PILOT_ENABLE_SIDECAR_LISTENING_HBONE`), a gRPC application without Envoy (istio.io, "Proxyless gRPC").
pub fn own_hbone(mesh: &Mesh, workload: &Workload, is_hbone: bool) -> Vec<Unmodelled> {
    const ENABLED: &str = "ISTIO_META_ENABLE_HBONE";
    let metadata = mesh.settings.proxy_metadata.get(ENABLED);
    let enabled = metadata.is_some_and(|value| value == "true");
    let annotations = &workload.template_annotations;
    let annotated = |key: &str, word: &str| {
        let value = annotations.get(key).filter(|value| value.contains(word))?;
        Some(Unmodelled {
            reason: format!("annotation {key}"),
            content: value.to_owned(),
        })
    };
    let mut list = Vec::new();
    // Said again by a pod, what the mesh says changes nothing; pods that run show by labels what they take.
    list.extend(annotated("proxy.istio.io/config", "HBONE").filter(|one| {
        let differs = !enabled || one.content.contains("false");
        workload.predicted && (differs || one.content.contains("DISABLE_HBONE"))
    }));
    list.extend(annotated("inject.istio.io/templates", "grpc"));
    let mode = workload.template_labels.get("security.istio.io/tlsMode");
    if let Some(mode) = mode.filter(|mode| *mode != "istio") {
        list.push(Unmodelled {
            reason: format!("label security.istio.io/tlsMode {mode}"),
            content: String::new(),
        });
    }
    const LISTENS: &str = "PILOT_ENABLE_SIDECAR_LISTENING_HBONE";
    if is_hbone
        && mesh
            .control_planes
            .iter()
            .any(|one| !one.flag(LISTENS, true))
    {
        list.push(Unmodelled {
            reason: format!("istiod's {LISTENS} false"),
            content: String::new(),
        });
    }
    list
}

/// An annotation that keeps inbound traffic from being redirected to ztunnel: plaintext reaches the
/// application, whatever policies say. Tunnels still go to ztunnel, but in releases before istio pull request
/// 58577 they time out, so that what becomes of them is not modelled (istio
/// cni/pkg/nodeagent `getPodLevelTrafficOverrides`; issue 58546).
pub fn past_ztunnel(workload: &Workload) -> Option<Unmodelled> {
    const BYPASS: &str = "ambient.istio.io/bypass-inbound-capture";
    let value = workload.template_annotations.get(BYPASS)?;
    // What Go's `strconv.ParseBool` takes for true.
    let bypasses = ["1", "t", "T", "true", "TRUE", "True"].contains(&value);
    bypasses.then(|| Unmodelled {
        reason: format!("annotation {BYPASS} takes inbound traffic past ztunnel"),
        content: value.to_owned(),
    })
}

/// A Sidecar object with ingress listeners of its own that selects these pods: its ports take the
/// place of the Services' and are not modelled.
pub fn ingress_listeners(mesh: &Mesh, namespace: &str, labels: &Labels) -> Option<Unmodelled> {
    let found = mesh.traffic.others.iter().find(|object| {
        object.kind == Kind::Sidecar
            && object.name.namespace == namespace
            && object
                .raw
                .pointer("/spec/ingress")
                .and_then(|list| list.as_array())
                .is_some_and(|list| !list.is_empty())
            && match object
                .raw
                .pointer("/spec/workloadSelector/labels")
                .and_then(|selector| selector.as_object())
            {
                Some(selector) => selector
                    .iter()
                    .all(|(key, value)| value.as_str().is_some_and(|value| labels.has(key, value))),
                None => true,
            }
    });
    found.map(|object| Unmodelled::new("a Sidecar object with ingress listeners", &object.raw))
}
