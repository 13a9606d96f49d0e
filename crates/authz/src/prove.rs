//! The prover: all requests at once.
//!
//! Every attribute of a request becomes a dimension. The predicates that occur on it cut it into
//! finitely many classes ([`strings`], [`numbers`]), such that two values of one class cannot be told
//! apart; the number of the class, in binary, is what a decision diagram ([`diagram`]) ranges over.
//! [`world`] says which values exist, [`atoms`] turns predicates into sets of classes, [`access`] turns
//! paths into diagrams ([`rules`] their rules), [`compare`] asks the question and reads a witness off the answer.

pub(crate) mod access;
pub(crate) mod atoms;
pub(crate) mod boxes;
pub(crate) mod compare;
pub(crate) mod diagram;
pub(crate) mod dimension;
pub(crate) mod numbers;
mod reading;
mod recent;
mod rules;
pub(crate) mod strings;
pub(crate) mod witness;
pub(crate) mod world;
