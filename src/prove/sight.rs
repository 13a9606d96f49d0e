//! Which Services a workload's sidecar knows: those of Services exported to its namespace that its Sidecar object
//! imports.
//!
//! In: Sidecar objects, `exportTo` of Services and ServiceEntries. Out: a [`Sight`]. Invariant: what is not known
//! leaves the sidecar as it came, in plaintext, or not at all where the mesh or the Sidecar says REGISTRY_ONLY (istio
//! pilot/pkg/model/sidecar.go `convertToSidecarScope`, `selectServices`; pilot/pkg/model/push_context.go
//! `initServiceRegistry`). ztunnel reads neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use smol_str::SmolStr;

use crate::mesh::traffic::{PlainObject, ServiceEntry};
use crate::mesh::{Mesh, Service};
use crate::snapshot::{Kind, Labels};

/// The annotation of Services that says to which namespaces they are exported.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// What a sidecar knows. By default everything.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sight {
    /// Where the workload runs.
    namespace: SmolStr,
    scope: Option<Arc<Scope>>,
    /// Whether what is not known is refused: addresses of pods, if nothing else.
    pub(super) blocks: bool,
    limits_exports: bool,
}

/// What a Sidecar object imports.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Scope {
    name: String,
    hosts: Vec<Host>,
    blocks: Option<bool>,
}

/// An entry of `egress[].hosts`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Host {
    namespace: String,
    name: String,
    /// The port of the listener, where it has one.
    port: Option<u64>,
    /// Whether the listener is another than the usual one, at which applications call it themselves.
    elsewhere: bool,
}

/// Whether a sidecar knows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knows {
    Yes,
    No,
    Unclear,
}

/// Sidecar objects of a mesh, and whether something is not exported everywhere.
pub(super) struct Scopes<'m> {
    mesh: &'m Mesh,
    by_namespace: BTreeMap<&'m str, Vec<(&'m PlainObject, Arc<Scope>)>>,
    limits_exports: bool,
}

impl<'m> Scopes<'m> {
    pub(super) fn of(mesh: &'m Mesh) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        let others = mesh.traffic.others.iter();
        for object in others.filter(|one| one.kind == Kind::Sidecar) {
            let list = by_namespace.entry(&object.name.namespace).or_default();
            list.push((object, Arc::new(scope(object))));
        }
        for list in by_namespace.values_mut() {
            // The oldest counts (istio pilot/pkg/model/config.go `sortConfigByCreationTime`).
            list.sort_by_key(|(one, _)| {
                let created = one.raw["metadata"]["creationTimestamp"].as_str();
                (created, &one.name.name)
            });
        }
        let is_limited = |list: Vec<&str>| !list.is_empty() && !list.contains(&"*");
        let limits_exports = is_limited(by_default(mesh))
            || mesh.services.iter().any(|one| is_limited(of_service(one)))
            || (mesh.traffic.service_entries.iter()).any(|one| is_limited(of_entry(one)));
        Self {
            mesh,
            by_namespace,
            limits_exports,
        }
    }

    /// What a sidecar in a namespace, of pods with these labels, knows; `None`: everything.
    pub(super) fn sight(&self, namespace: &SmolStr, labels: &Labels) -> Option<Sight> {
        let of = |namespace: &str| self.by_namespace.get(namespace).into_iter().flatten();
        let selector =
            |object: &PlainObject| object.raw.pointer("/spec/workloadSelector/labels").cloned();
        let selects = |object: &PlainObject| {
            let selector = selector(object)?;
            let mut pairs = selector.as_object()?.iter();
            Some(pairs.all(|(key, value)| value.as_str().is_some_and(|it| labels.has(key, it))))
        };
        // One that selects the pods, the namespace's, that of the root namespace
        // (istio pilot/pkg/model/push_context.go `getSidecarScope`).
        let root = &self.mesh.settings.root_namespace;
        let chosen = of(namespace)
            .find(|(one, _)| selects(one) == Some(true))
            .or_else(|| of(namespace).find(|(one, _)| selector(one).is_none()))
            .or_else(|| of(root).find(|(one, _)| selector(one).is_none()));
        let scope = chosen.map(|(_, scope)| Arc::clone(scope));
        let imports_all = scope.as_ref().is_none_or(|scope| {
            let mut hosts = scope.hosts.iter();
            hosts.any(|one| {
                one.namespace == "*" && one.name == "*" && one.port.is_none() && !one.elsewhere
            })
        });
        let own = scope.as_ref().and_then(|scope| scope.blocks);
        let blocks = own.unwrap_or(self.mesh.settings.registry_only);
        let knows_all = imports_all && !self.limits_exports;
        if knows_all && !blocks {
            return None;
        }
        Some(Sight {
            // Where it sees everything, it does not matter from where.
            namespace: if knows_all {
                SmolStr::default()
            } else {
                namespace.clone()
            },
            blocks,
            limits_exports: self.limits_exports,
            scope: scope.filter(|_| !imports_all),
        })
    }
}

fn scope(object: &PlainObject) -> Scope {
    let spec = &object.raw["spec"];
    let listeners = spec["egress"].as_array().into_iter().flatten();
    let mut hosts: Vec<Host> = Vec::new();
    for listener in listeners {
        let elsewhere = listener["bind"]
            .as_str()
            .is_some_and(|bind| !bind.is_empty())
            || listener["captureMode"] == "NONE";
        for host in listener["hosts"].as_array().into_iter().flatten() {
            let (namespace, name) = host
                .as_str()
                .and_then(|host| host.split_once('/'))
                .unwrap_or(("*", "*"));
            let own = object.name.namespace.as_str();
            hosts.push(Host {
                namespace: if namespace == "." { own } else { namespace }.to_owned(),
                name: name.to_owned(),
                port: listener["port"]["number"].as_u64(),
                elsewhere,
            });
        }
    }
    if spec["egress"].as_array().is_none_or(Vec::is_empty) {
        hosts.push(Host {
            namespace: "*".to_owned(),
            name: "*".to_owned(),
            port: None,
            elsewhere: false,
        });
    }
    let mode = spec["outboundTrafficPolicy"]["mode"].as_str();
    // A policy without mode is REGISTRY_ONLY, the first of the enumeration.
    let blocks = (spec["outboundTrafficPolicy"].is_object()).then(|| mode != Some("ALLOW_ANY"));
    Scope {
        name: format!("Sidecar {}", object.name),
        hosts,
        blocks,
    }
}

fn by_default(mesh: &Mesh) -> Vec<&str> {
    let list = mesh.settings.service_exports.iter();
    list.map(SmolStr::as_str).collect()
}

fn of_service(service: &Service) -> Vec<&str> {
    let list = service.annotations.get(EXPORT_TO).into_iter();
    let list = list.flat_map(|list| list.split(','));
    list.map(str::trim).filter(|one| !one.is_empty()).collect()
}

fn of_entry(entry: &ServiceEntry) -> Vec<&str> {
    let list = entry.raw["spec"]["exportTo"].as_array();
    let list = list.into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

impl Sight {
    /// Who limits it, in words.
    pub(super) fn by(&self) -> String {
        match &self.scope {
            Some(scope) => format!("{} imports some Services only", scope.name),
            None if self.limits_exports => "exportTo of Services".to_owned(),
            None => "outboundTrafficPolicy REGISTRY_ONLY".to_owned(),
        }
    }

    /// Whether the sidecar knows a Service, dialled at this port.
    pub(super) fn of_service(&self, mesh: &Mesh, service: &Service, port: u16) -> Knows {
        let exports = of_service(service);
        self.knows(
            mesh,
            exports,
            &service.name.namespace,
            &service.host(),
            port,
        )
    }

    /// Whether it reads the routes of an object in a namespace, for these hosts (istio
    /// pilot/pkg/model/virtualservice.go `SelectVirtualServices`).
    pub(super) fn of_routes(&self, namespace: &str, hosts: &[SmolStr]) -> Knows {
        let Some(scope) = &self.scope else {
            return Knows::Yes;
        };
        let tail = |text: &str| text.strip_prefix('*').map(str::to_owned);
        let matches = |pattern: &str, host: &str| match (tail(pattern), tail(host)) {
            (None, None) => pattern == host,
            (Some(tail), None) => host.ends_with(&tail),
            (None, Some(tail)) => pattern.ends_with(&tail),
            (Some(left), Some(right)) => left.ends_with(&right) || right.ends_with(&left),
        };
        let mut unclear = false;
        for one in &scope.hosts {
            unclear |=
                one.namespace.starts_with('~') && (&*one.namespace, &*one.name) != ("~", "*");
            let is_meant = (one.namespace == "*" || one.namespace == namespace)
                && hosts.iter().any(|host| matches(&one.name, host));
            let is_everywhere = one.port.is_none() && !one.elsewhere;
            if is_meant && is_everywhere && !unclear {
                return Knows::Yes;
            }
            unclear |= is_meant;
        }
        if unclear { Knows::Unclear } else { Knows::No }
    }

    /// The same of a ServiceEntry.
    pub(super) fn of_entry(&self, mesh: &Mesh, entry: &ServiceEntry, port: u16) -> Knows {
        let hosts = entry.hosts.iter();
        let known = hosts.map(|host| {
            let exports = of_entry(entry);
            self.knows(mesh, exports, &entry.name.namespace, host, port)
        });
        let mut known = known.collect::<Vec<_>>();
        known.dedup();
        match known.as_slice() {
            [Knows::Yes] => Knows::Yes,
            _ => Knows::Unclear,
        }
    }

    fn knows<'a>(
        &self,
        mesh: &'a Mesh,
        mut exports: Vec<&'a str>,
        namespace: &str,
        host: &str,
        port: u16,
    ) -> Knows {
        if exports.is_empty() {
            exports = by_default(mesh);
        }
        let is_exported = |to: &&str| match *to {
            "*" => true,
            "." => self.namespace == namespace,
            other => self.namespace == other,
        };
        if !exports.is_empty() && !exports.iter().any(is_exported) {
            return Knows::No;
        }
        let Some(scope) = &self.scope else {
            return Knows::Yes;
        };
        let is_host = |pattern: &str| match pattern.strip_prefix('*') {
            Some(tail) => host.ends_with(tail),
            None => host == pattern,
        };
        let mut unclear = false;
        for one in &scope.hosts {
            // `~/*` imports nothing; others of this kind leave out something.
            unclear |=
                one.namespace.starts_with('~') && (&*one.namespace, &*one.name) != ("~", "*");
            let matches = (one.namespace == "*" || one.namespace == namespace)
                && is_host(&one.name)
                && one.port.is_none_or(|listener| listener == u64::from(port));
            if matches && !one.elsewhere {
                return if unclear { Knows::Unclear } else { Knows::Yes };
            }
            unclear |= matches;
        }
        // Where a route that it knows leads is imported, too.
        let mut routes = mesh.traffic.virtual_services.iter();
        unclear |= routes.any(|one| one.on_mesh && one.destinations.iter().any(|it| it == host));
        if unclear { Knows::Unclear } else { Knows::No }
    }
}
