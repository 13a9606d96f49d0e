//! Policies for sidecars to policies for waypoints, and the rest that could not be carried over.
//!
//! In: a [`Mesh`] and its [`WaypointNeeds`]. Out: [`Conversion`]: objects to apply, each with its
//! provenance, and refusals with object, field and trap. Invariant: a copy keeps action, ports,
//! provider and scope, or there is no copy and a [`Refusal`] says why; a copy is made only for
//! Services that have a waypoint; every `targetRef` names something that exists.

mod alike;
mod class;
mod edit;
mod emit;
mod exception;
mod extensions;
mod guard;
mod hazards;
mod names;
pub mod network;
mod own_guard;
mod place;
mod ports;
mod remainder;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::mesh::{Mesh, ObjectReference, ServiceId, WaypointId};
use crate::needs::{Choice, WaypointNeeds};
use crate::snapshot::{Kind, ObjectName};

pub use edit::Edited;
pub use emit::{COPIED_FROM_ANNOTATION, COPIED_FROM_KIND_LABEL, GUARDS_ANNOTATION};

/// How far a policy reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Pods with certain labels.
    Workload,
    /// A namespace.
    Namespace,
    /// The whole mesh.
    Mesh,
}

/// Why an object is generated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The copy of a policy, for a waypoint to enforce.
    Copy {
        /// The original.
        source: ObjectReference,
        /// How far the original reaches.
        scope: Scope,
        /// Whether it passes a token on that the original takes away, since sidecars behind the waypoint
        /// ask for it again.
        forwards_token: bool,
    },
    /// The user's own policy, edited.
    Edit {
        /// The original.
        source: ObjectReference,
        /// Why, each once.
        because: Vec<Edited>,
    },
    /// Lets the waypoint reach the pods behind a Service.
    Guard {
        /// The Service.
        service: ObjectName,
    },
}

/// What the input already has of a generated object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// Nothing.
    Missing,
    /// The same.
    Equal,
    /// Another; the path of the first difference.
    Differs(String),
}

/// One object to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
    /// Why.
    pub purpose: Purpose,
    /// Services that it is for; for a Gateway or GatewayClass, all that it serves now.
    pub services: Vec<ServiceId>,
    /// The object.
    pub manifest: Value,
    /// Whether it is applied already.
    pub presence: Presence,
}

/// What makes a policy mean something else at a waypoint (or at the pods behind one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trap {
    /// The policy covers some of the pods behind a Service; a waypoint cannot tell pods apart.
    SubsetOfPods,
    /// Clients dial pods, past any waypoint.
    HeadlessService,
    /// No Service stands in front of the pods.
    PodsWithoutService,
    /// `ipBlocks` see no client address behind a waypoint's inner listener.
    SourceAddress,
    /// `destination.ip` is the Service's address at a waypoint.
    DestinationAddress,
    /// `connection.sni` is empty on HTTP ports of a waypoint.
    ServerName,
    /// The header that carries the client's certificate is not there behind a waypoint.
    ClientCertificateHeader,
    /// Port numbers cannot be translated without doubt.
    AmbiguousPort,
    /// A port that no Service leads to stays enforceable at the pods only.
    PortWithoutService,
    /// A VirtualService rewrites the request before the server's sidecar sees it; a waypoint
    /// authorizes first.
    RewrittenRequest,
    /// A guard would close pods that no ALLOW policy closes now.
    GuardOverPods,
    /// An EnvoyFilter, or a part of one, that waypoints do not take.
    EnvoyFilter,
    /// A field that castoff does not understand.
    NotUnderstood,
}

impl Trap {
    /// Stable name, as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SubsetOfPods => "subset-of-pods",
            Self::HeadlessService => "headless-service",
            Self::PodsWithoutService => "pods-without-service",
            Self::SourceAddress => "source-address",
            Self::DestinationAddress => "destination-address",
            Self::ServerName => "server-name",
            Self::ClientCertificateHeader => "client-certificate-header",
            Self::AmbiguousPort => "ambiguous-port",
            Self::PortWithoutService => "port-without-service",
            Self::RewrittenRequest => "rewritten-request",
            Self::GuardOverPods => "guard-over-pods",
            Self::EnvoyFilter => "envoy-filter",
            Self::NotUnderstood => "not-understood",
        }
    }
}

/// Something about a policy that was not carried over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The policy.
    pub object: ObjectReference,
    /// What stands in the way.
    pub trap: Trap,
    /// Where in the policy, when one field is meant.
    pub field: Option<String>,
    /// For which Service; `None` for the policy as a whole.
    pub service: Option<ObjectName>,
    /// In words.
    pub reason: String,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversion {
    /// Objects that should be there, sorted by namespace, kind and name.
    pub generated: Vec<Generated>,
    /// What was not carried over, sorted, each once.
    pub refusals: Vec<Refusal>,
    /// Services that have a waypoint (used or to be used), with it.
    pub served: BTreeMap<ServiceId, WaypointId>,
    /// Services that need a waypoint which is not there yet: nothing was copied for them.
    pub waiting: BTreeSet<ServiceId>,
    /// Originals by whether every pod that they apply to is served, and none was refused.
    originals: BTreeMap<(Kind, ObjectName), Original>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Original {
    copies: usize,
    /// Why it must stay, whatever was copied.
    stays: Option<String>,
}

impl Conversion {
    /// Objects that are to be applied: missing, or other than expected.
    pub fn to_apply(&self) -> impl Iterator<Item = &Generated> {
        self.generated
            .iter()
            .filter(|one| one.presence != Presence::Equal)
    }

    /// Whether everything generated for a Service is applied and nothing was refused for it.
    pub fn is_complete_for(&self, service: ServiceId, name: &ObjectName) -> bool {
        !self.waiting.contains(&service)
            && self.to_apply().all(|one| !one.services.contains(&service))
            && self
                .refusals
                .iter()
                .all(|refusal| refusal.service.as_ref() != Some(name))
    }

    /// Originals whose every copy is applied and that nothing else needs any more, by kind and
    /// name: those that can be deleted once all callers go through the waypoint.
    pub fn deletable(&self) -> Vec<(Kind, ObjectName)> {
        self.originals
            .iter()
            .filter(|((kind, name), original)| {
                original.copies > 0
                    && original.stays.is_none()
                    && self.to_apply().all(|one| !one.is_copy_of(*kind, name))
            })
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Originals that were copied, but must stay, with the reason.
    pub fn staying(&self) -> impl Iterator<Item = (Kind, &ObjectName, &str)> {
        self.originals
            .iter()
            .filter_map(|((kind, name), original)| {
                let why = original.stays.as_deref()?;
                (original.copies > 0).then_some((*kind, name, why))
            })
    }
}

impl Generated {
    /// Whether it is a copy of this policy.
    pub fn is_copy_of(&self, kind: Kind, name: &ObjectName) -> bool {
        matches!(&self.purpose, Purpose::Copy { source, .. }
            if source.kind == kind && source.name == *name)
    }
}

/// Converts every policy of the mesh.
pub fn convert<'a>(mesh: &'a Mesh, needs: &WaypointNeeds, choice: &Choice<'a>) -> Conversion {
    let mut draft = place::Draft::new(mesh, needs, choice);
    for policy in extensions::policies(mesh, choice) {
        // The waypoint enforces what the user wrote, without the exceptions that castoff added.
        let restored = exception::restored(policy.raw);
        draft.place(&extensions::Policy {
            raw: restored.as_ref().unwrap_or(policy.raw),
            ..policy
        });
    }
    edit::write_out_modes(&mut draft, choice);
    guard::add(&mut draft);
    names::finish(draft)
}
