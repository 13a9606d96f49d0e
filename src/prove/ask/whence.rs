//! Addresses that are not known, and whether an answer hangs on them.
//!
//! In: a path and the addresses that a caller is known to have. Out: one address of each kind that the
//! blocks of the path tell apart, and what becomes of a request for all of them. Invariant: an answer
//! is only said where every address leads to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use castoff_authz::decision::{Decision, Outcome};
use castoff_authz::eval::evaluate;
use castoff_authz::ip::{IpBlock, from_number, number};
use castoff_authz::path::{EnforcementPath, IpSeen, Point, PointKind};
use castoff_authz::policy::Key;
use castoff_authz::request::Request;

use super::tell;

/// Combinations of addresses that are tried, at most.
const MOST: usize = 4096;

/// Whose address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Callers,
    Dialled,
    /// The name of a choice.
    Surroundings(String),
}

/// An address that is told apart on a path, and those to try.
#[derive(Debug, Clone)]
pub(super) struct Address {
    whose: Whose,
    blocks: BTreeSet<IpBlock>,
    tried: Vec<IpAddr>,
}

/// What becomes of a request for every address.
pub(super) enum Settled {
    /// This, for all of them.
    Alike(Decision),
    /// It hangs on addresses, in words.
    Hangs(String),
}

/// The addresses that the points of a path tell apart. `callers`: those it is known to have.
pub(super) fn addresses(path: &EnforcementPath, callers: &[IpAddr]) -> Vec<Address> {
    let mut found: BTreeMap<Whose, (BTreeSet<IpBlock>, &[IpAddr])> = BTreeMap::new();
    for point in &path.points {
        for (seen, block) in named(point) {
            let (whose, known) = match seen {
                IpSeen::Callers | IpSeen::Forwarded => (Whose::Callers, callers),
                IpSeen::Dialled => (Whose::Dialled, &[][..]),
                IpSeen::Of { owner, among } => {
                    let choice = seen.choice().unwrap_or_else(|| owner.clone());
                    (Whose::Surroundings(choice), among.as_slice())
                }
                IpSeen::NotAnIp | IpSeen::Fixed(_) => continue,
            };
            let entry = found.entry(whose).or_insert((BTreeSet::new(), known));
            entry.0.insert(block);
        }
    }
    found
        .into_iter()
        .map(|(whose, (blocks, known))| Address {
            tried: one_of_each_kind(&blocks, known),
            whose,
            blocks,
        })
        .filter(|address| address.tried.len() > 1)
        .collect()
}

/// The blocks that a point names, each with the address that it looks at.
fn named(point: &Point) -> Vec<(&IpSeen, IpBlock)> {
    let seen = &point.seen;
    let mut found = Vec::new();
    if let PointKind::NetworkPolicy { admits } = &point.kind {
        for (block, exceptions) in admits.iter().filter_map(|entry| entry.block.as_ref()) {
            found.push((&seen.source_ip, *block));
            found.extend(exceptions.iter().map(|block| (&seen.source_ip, *block)));
        }
    }
    let mut add = |seen, values: &[String]| {
        let blocks = values.iter().filter_map(|text| IpBlock::parse(text));
        found.extend(blocks.map(|block| (seen, block)));
    };
    for rule in point.policies.iter().flat_map(|policy| &policy.rules) {
        for source in &rule.from {
            add(&seen.source_ip, &source.ip_blocks);
            add(&seen.source_ip, &source.not_ip_blocks);
            add(&seen.remote_ip, &source.remote_ip_blocks);
            add(&seen.remote_ip, &source.not_remote_ip_blocks);
        }
        for condition in &rule.when {
            let looked_at = match condition.key {
                Key::SourceIp => &seen.source_ip,
                Key::RemoteIp => &seen.remote_ip,
                Key::DestinationIp => &seen.destination_ip,
                _ => continue,
            };
            add(looked_at, &condition.values);
            add(looked_at, &condition.not_values);
        }
    }
    found
}

/// Of the known addresses, or of all where none is known, one that lies in each combination of blocks;
/// a stand-in from the documentation's range first. Between the ends of blocks nothing changes.
fn one_of_each_kind(blocks: &BTreeSet<IpBlock>, known: &[IpAddr]) -> Vec<IpAddr> {
    let ends = || {
        let stand_in = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        let starts = blocks.iter().map(IpBlock::first);
        let zeros = blocks.iter().map(|block| from_number(0, block.first()));
        let after = blocks.iter().filter_map(|block| {
            let next = from_number(number(block.last()).checked_add(1)?, block.last());
            (number(next) > number(block.last())).then_some(next)
        });
        let ends = starts.chain(after).chain(zeros);
        std::iter::once(stand_in).chain(ends).collect()
    };
    let all: Vec<IpAddr> = if known.is_empty() {
        ends()
    } else {
        known.to_vec()
    };
    let mut kinds: BTreeSet<Vec<bool>> = BTreeSet::new();
    all.into_iter()
        .filter(|address| {
            kinds.insert(
                blocks
                    .iter()
                    .map(|block| block.contains(*address))
                    .collect(),
            )
        })
        .collect()
}

/// Evaluates a request with every combination of addresses.
pub(super) fn settle(request: &Request, path: &EnforcementPath, addresses: &[Address]) -> Settled {
    let combinations = (addresses.iter())
        .try_fold(1_usize, |product, one| product.checked_mul(one.tried.len()))
        .filter(|product| *product <= MOST);
    let Some(combinations) = combinations else {
        return Settled::Hangs(format!("{}: too many to try", hangs_on(addresses)));
    };
    let first = evaluate(&with(request, addresses, 0), path);
    for index in 1..combinations {
        let other = evaluate(&with(request, addresses, index), path);
        if kind(&first.outcome) != kind(&other.outcome) {
            return Settled::Hangs(format!(
                "{}: {}, or {}",
                hangs_on(addresses),
                tell::decision(&first, path),
                tell::decision(&other, path)
            ));
        }
    }
    Settled::Alike(first)
}

fn kind(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Allow => 0,
        Outcome::Deny => 1,
        Outcome::Depends(_) => 2,
    }
}

/// The request with one combination of addresses.
fn with(request: &Request, addresses: &[Address], mut index: usize) -> Request {
    let mut request = request.clone();
    for address in addresses {
        let chosen = address.tried[index % address.tried.len()];
        index /= address.tried.len();
        match &address.whose {
            Whose::Callers => {
                request.source_ip = chosen;
                request.forwarded_ip = chosen;
            }
            Whose::Dialled => request.destination_ip = chosen,
            Whose::Surroundings(choice) => {
                request.surroundings.insert(choice.clone(), chosen);
            }
        }
    }
    request
}

fn hangs_on(addresses: &[Address]) -> String {
    let parts: Vec<String> = addresses
        .iter()
        .map(|address| {
            let blocks: Vec<String> = address.blocks.iter().map(IpBlock::to_string).collect();
            let whose = match &address.whose {
                Whose::Callers => "the address it calls from",
                Whose::Dialled => "the address it calls",
                Whose::Surroundings(choice) => &format!("the address of {choice}"),
            };
            format!("{whose} ({})", blocks.join(", "))
        })
        .collect();
    format!("hangs on {}", parts.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(blocks: &[&str], known: &[&str]) -> Vec<String> {
        let blocks = (blocks.iter())
            .filter_map(|text| IpBlock::parse(text))
            .collect();
        let known: Vec<IpAddr> = known.iter().filter_map(|text| text.parse().ok()).collect();
        let found = one_of_each_kind(&blocks, &known);
        found.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn one_address_inside_and_one_outside_each_block() {
        assert_eq!(kinds(&["10.1.0.0/16"], &[]), ["192.0.2.1", "10.1.0.0"]);
        assert_eq!(
            kinds(&["10.0.0.0/8", "10.0.0.0/16"], &[]),
            ["192.0.2.1", "10.0.0.0", "10.1.0.0"]
        );
        assert_eq!(kinds(&["192.0.2.0/24"], &[]), ["192.0.2.1", "192.0.3.0"]);
        assert_eq!(kinds(&["0.0.0.0/0"], &[]), ["192.0.2.1"]);
        assert_eq!(
            kinds(&["255.0.0.0/8", "::/1"], &[]),
            ["192.0.2.1", "255.0.0.0", "::"]
        );
    }

    #[test]
    fn known_addresses_are_the_only_ones() {
        let pods = ["10.1.0.1", "10.1.0.2", "10.2.0.1"];
        assert_eq!(kinds(&["10.1.0.0/16"], &pods[..2]), ["10.1.0.1"]);
        assert_eq!(kinds(&["10.1.0.0/16"], &pods), ["10.1.0.1", "10.2.0.1"]);
    }
}
