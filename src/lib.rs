//! Moves an Istio mesh from sidecars to ambient mode.
