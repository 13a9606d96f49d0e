//! Requests drawn at random, of what policies name.
//!
//! In: a server and the points on the ways to it. Out: a request. Invariant: its values are of the pools that policies
//! are drawn from, so that the two meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use castoff::mesh::Workload;
use castoff_authz::path::{IpSeen, Point};
use castoff_authz::request::{Http, Request, Token};

use crate::generated::{ADDRESSES, GROUPS, ISSUERS, METHODS, PATHS, ROLES, SUBJECTS};
use crate::generator::Random;

/// A request to a server's port; addresses that points see are those that they may see.
pub(crate) fn request<'p>(
    (server, port): (&Workload, u16),
    is_http: bool,
    points: impl Iterator<Item = &'p Point>,
    random: &mut Random,
) -> Request {
    let address = |random: &mut Random| -> IpAddr { random.choose(ADDRESSES).parse().unwrap() };
    let source_ip = address(random);
    let forwarded_ip = if random.below(3) == 0 {
        address(random)
    } else {
        source_ip
    };
    let mut surroundings = BTreeMap::new();
    for point in points {
        let seen = &point.seen;
        for seen in [&seen.source_ip, &seen.remote_ip, &seen.destination_ip] {
            if let (Some(choice), IpSeen::Of { among, .. }) = (seen.choice(), seen) {
                let chosen = match among.as_slice() {
                    [] => address(random),
                    some => *random.choose(some),
                };
                surroundings.entry(choice).or_insert(chosen);
            }
        }
    }
    let http = is_http.then(|| Http {
        method: (*random.choose(METHODS)).to_owned(),
        path: (*random.choose(PATHS)).to_owned(),
        host: match random.below(3) {
            0 => "other.example".to_owned(),
            _ => format!("{}.{}", server.name.name, server.name.namespace),
        },
        headers: match random.below(3) {
            0 => BTreeMap::new(),
            _ => [("x-role".to_owned(), (*random.choose(ROLES)).to_owned())].into(),
        },
        token: (random.below(3) > 0).then(|| token(random)),
    });
    Request {
        principal: None,
        source_ip,
        forwarded_ip,
        destination_ip: address(random),
        destination_port: port,
        sni: None,
        http,
        surroundings,
        answers: BTreeMap::new(),
    }
}

fn token(random: &mut Random) -> Token {
    let mut token = Token::default();
    let mut set = |name: &str, value: &&str| {
        token
            .claims
            .insert(vec![name.to_owned()], vec![(*value).to_owned()]);
    };
    set("iss", random.choose(ISSUERS));
    set("sub", random.choose(SUBJECTS));
    if random.below(2) == 0 {
        set("groups", random.choose(GROUPS));
    }
    token
}
