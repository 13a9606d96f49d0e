//! What Istio's authorization decides, exactly, and whether two configurations decide the same.
//!
//! Pure: no Kubernetes, no serialization, no I/O, no clock, no threads. In comes the vocabulary
//! ([`policy`], [`request`], [`path`]), out goes a [`decision`] for one request, or a [`verdict`]
//! for all requests at once. Every witness of a difference has been replayed by the plain evaluator.
//!
//! Between the words and the answers stands [`enforced`]: what istiod makes of a policy for one proxy.
//! The [evaluator](eval) and the prover read the same translation.
//!
//! Reading order: [`policy`], [`request`], [`path`] (the words), [`decision`] (the answer for one
//! request), [`verdict`] (the answer for all requests).

pub mod decision;
pub mod enforced;
mod envoy;
pub mod eval;
pub mod ip;
pub mod path;
pub mod policy;
mod prove;
pub mod request;
pub mod settings;
mod sight;
pub mod text;
pub mod unknown;
pub mod verdict;
pub mod ztunnel;
