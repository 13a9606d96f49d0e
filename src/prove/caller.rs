//! Who calls, what is dialled, and which pods answer: the key of every comparison.

use crate::mesh::{DataPlaneMode, Mesh, Role, ServiceId, WorkloadId};
use crate::snapshot::ObjectName;

/// How a caller's traffic leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerMode {
    /// Through its sidecar.
    Sidecar,
    /// Through ztunnel.
    Ambient,
    /// As an ingress gateway (a router).
    Gateway,
    /// Without the mesh: plaintext, no identity.
    Plain,
}

/// One caller, as it runs in this state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// The workload; `None` for an address outside the cluster or any other identity.
    pub workload: Option<ObjectName>,
    /// How its traffic leaves it.
    pub mode: CallerMode,
    /// Its identity, without `spiffe://`; `None` in plaintext.
    pub principal: Option<String>,
}

impl Caller {
    /// A workload in one of its modes.
    pub fn of(mesh: &Mesh, workload: WorkloadId, mode: CallerMode) -> Self {
        let workload = mesh.workload(workload);
        let principal =
            (mode != CallerMode::Plain).then(|| workload.principal(&mesh.settings.trust_domain));
        Self {
            workload: Some(workload.name.clone()),
            mode,
            principal,
        }
    }

    /// Somebody without identity.
    pub fn outsider() -> Self {
        Self {
            workload: None,
            mode: CallerMode::Plain,
            principal: None,
        }
    }

    /// How pods of this mode send, given what the workload is for.
    pub fn mode_of(role: &Role, mode: DataPlaneMode) -> CallerMode {
        match (role, mode) {
            (Role::Gateway | Role::KubernetesGateway(_), _) => CallerMode::Gateway,
            (_, DataPlaneMode::Sidecar) => CallerMode::Sidecar,
            (_, DataPlaneMode::Ambient) => CallerMode::Ambient,
            (_, DataPlaneMode::None) => CallerMode::Plain,
        }
    }
}

/// What the caller dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dial {
    /// The virtual address of a Service, at one of its ports.
    Service {
        /// The Service.
        service: ServiceId,
        /// Index into its ports.
        port: usize,
    },
    /// An address or host of a ServiceEntry that selects the server's pods.
    ServiceEntry {
        /// Index into [`Traffic::service_entries`](crate::mesh::traffic::Traffic::service_entries).
        entry: usize,
        /// Index into its ports.
        port: usize,
    },
    /// A pod's address, at the server's port; also a headless Service, which has no other.
    Pod,
    /// The same by a caller whose sidecar would show his identity there, as it does to Services. No sidecar
    /// does; it tells what policies say of him.
    PodByIdentity,
}

/// The pods that answer: one generation of a workload, at one of their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// The workload.
    pub workload: WorkloadId,
    /// Index into its generations.
    pub generation: usize,
    /// The pods' port.
    pub port: u16,
}

/// What is sent; compared apart, because a chain that sniffs treats the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// HTTP requests.
    Http,
    /// Bytes that are not HTTP.
    Bytes,
}
