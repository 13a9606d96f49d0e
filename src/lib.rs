//! Moves an Istio mesh from sidecars to ambient mode: says what to do next, writes what to
//! apply, and proves that nobody gains or loses access. It reads; it never changes a cluster.
//!
//! The way data flows, which is also the order of the modules; each uses only those before it
//! (`tests/shape.rs` holds that):
//!
//! ```text
//! source ──▶ snapshot ──▶ mesh ──▶ phases ──▶ report
//! files,      what was     who is    checks,    text,
//! cluster,    read, and    who, who  findings,  JSON,
//! bundle      what could   may call  artefacts  YAML
//!             not be       whom        │
//!                          │           ├─ convert: policies → waypoint policies + remainder
//!                          └───────────┴─ simulate: what was written, applied in memory
//! ```

pub mod api;
pub mod snapshot;
pub mod source;

pub mod mesh;

pub mod finding;
pub mod manifest;

pub mod needs;

pub mod convert;

pub mod phases;

pub mod estimate;

pub mod prove;

pub mod plan;

pub mod simulate;

pub mod exit;
pub mod waiver;

pub mod report;

pub mod demo;

pub mod cli;
