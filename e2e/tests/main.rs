//! castoff against a real API server. `cargo xtask e2e` starts one and sets the variables;
//! without `CASTOFF_E2E_KUBECONFIG` every case says loudly that it was skipped.
#![allow(clippy::unwrap_used, missing_docs)]

mod circle;
mod cluster;
mod connections;
mod control_plane;
mod dumps;
mod in_cluster;
mod injector;
mod manifests;
mod mesh;
mod migration;
#[path = "../../tests/support/origins.rs"]
mod origins;
mod overload;
mod permissions;
mod plugin;
mod privilege;
mod reading;
mod requests;
mod scale;
