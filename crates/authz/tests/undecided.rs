//! When the prover does not decide, and what it says then.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/questions.rs"]
mod questions;
#[path = "support/words.rs"]
mod words;

use castoff_authz::path::{HttpSeen, IpSeen, PointKind};
use castoff_authz::policy::{Action, Key, Policy, Rule};
use castoff_authz::settings::Authorizer;
use castoff_authz::verdict::{Finding, Limits, Proved, UndecidedReason, compare};
use questions::*;
use words::*;

#[test]
fn an_equal_authorizer_is_the_same_and_a_different_one_undecided() {
    let with = |kind: PointKind, custom: Option<&str>, rules: Vec<Rule>| {
        let mut policies = vec![deny(vec![to(&[("paths", "/never")])])];
        policies.extend(custom.map(|provider| {
            let provider = provider.to_owned();
            Policy::new("shop", "custom", Action::Custom { provider }, rules)
        }));
        let mut path = at(kind, &policies);
        path.settings = settings(|settings| {
            settings.authorizers = ["gate", "door"]
                .map(|name| Authorizer {
                    name: name.to_owned(),
                    http_only: false,
                    definition: String::new(),
                })
                .to_vec();
        });
        vec![path]
    };
    let admin = || vec![to(&[("paths", "/admin*")])];
    let written_differently = vec![to(&[("paths", "/admin"), ("paths", "/admin*")])];
    let same = ask(
        with(http(), Some("gate"), admin()),
        with(http(), Some("gate"), written_differently),
    );
    assert!(same.is_same(), "{same:?}");
    for present in [
        with(http(), Some("door"), admin()),
        with(http(), None, vec![]),
    ] {
        let verdict = ask(with(http(), Some("gate"), admin()), present);
        let Finding::Undecided(undecided) = &verdict.opens else {
            panic!("{verdict:?}");
        };
        assert!(matches!(undecided.reason, UndecidedReason::Unknown { .. }));
        let Proved::Outside { attributes, .. } = &undecided.proved else {
            panic!("{undecided:?}");
        };
        assert_eq!(
            attributes[0],
            ("path".to_owned(), vec!["/admin".to_owned()])
        );
    }
    // Of many values a few are shown, and it is said how many are not.
    let pages: Vec<Rule> = (0..11)
        .map(|page| to(&[("paths", &format!("/page-{page}"))]))
        .collect();
    let verdict = ask(
        with(http(), Some("gate"), pages),
        with(http(), None, vec![]),
    );
    let Finding::Undecided(undecided) = &verdict.opens else {
        panic!("{verdict:?}");
    };
    let Proved::Outside { attributes, .. } = &undecided.proved else {
        panic!("{undecided:?}");
    };
    let (name, shown) = &attributes[0];
    assert_eq!((name.as_str(), shown.len()), ("path", 9));
    assert_eq!(shown[8], "3 more");
    // A difference beside the authorizer is certain, and says on whom it rests.
    let wider = ask(with(http(), Some("gate"), vec![Rule::default()]), {
        let mut path = with(http(), Some("gate"), vec![Rule::default()]);
        path[0].points[0].policies.remove(0);
        path
    });
    assert_eq!(witness(&wider.opens).if_accepted_by, ["gate"]);
}

#[test]
fn what_is_not_modelled_is_undecided_only_for_the_requests_it_touches() {
    let opaque = |reason: &str, content: &str| {
        let mut path = at(http(), &[]);
        path.points.insert(
            0,
            point(
                PointKind::Opaque {
                    reason: reason.to_owned(),
                    content: content.into(),
                },
                &[],
            ),
        );
        path.points.insert(
            0,
            point(http(), &[deny(vec![from(&[("notPrincipals", WEB)])])]),
        );
        vec![path]
    };
    assert!(ask(opaque("EnvoyFilter a", "1"), opaque("EnvoyFilter a", "1")).is_same());
    let verdict = ask(opaque("EnvoyFilter a", "1"), opaque("EnvoyFilter b", "1"));
    let Finding::Undecided(undecided) = &verdict.breaks else {
        panic!("{verdict:?}");
    };
    let Proved::Outside {
        attributes,
        addresses,
    } = &undecided.proved
    else {
        panic!("{undecided:?}");
    };
    assert_eq!(
        attributes,
        &[("identity".to_owned(), vec![format!("spiffe://{WEB}")])]
    );
    assert_eq!(addresses.len(), 1);
    // The same name with other content is another one.
    let edited = ask(opaque("EnvoyFilter a", "1"), opaque("EnvoyFilter a", "2"));
    assert!(matches!(edited.opens, Finding::Undecided(_)), "{edited:?}");
    let removed = ask(opaque("EnvoyFilter a", "1"), vec![]);
    assert!(
        matches!(removed.breaks, Finding::Undecided(_)),
        "{removed:?}"
    );
    assert_eq!(removed.opens, Finding::Never);
}

#[test]
fn experimental_conditions_and_rewrites_are_undecided_where_they_differ() {
    let key = || Key::parse("experimental.envoy.filters.x[y]");
    let experimental = |value: &str| vec![at(http(), &[deny(vec![when(key(), value)])])];
    assert!(ask(experimental("a"), experimental("a")).is_same());
    assert!(matches!(
        ask(experimental("a"), experimental("b")).opens,
        Finding::Undecided(_)
    ));
    let rewritten = |name: &str, content: &str| {
        let mut path = at(
            http(),
            &[allow(vec![to(&[("paths", "/a"), ("methods", "GET")])])],
        );
        path.points[0].seen.http = HttpSeen::Rewritten {
            by: name.to_owned(),
            content: content.into(),
        };
        vec![path]
    };
    assert!(ask(rewritten("route", "a"), rewritten("route", "a")).is_same());
    for other in [rewritten("other", "a"), rewritten("route", "b")] {
        let verdict = ask(rewritten("route", "a"), other);
        assert!(matches!(verdict.breaks, Finding::Undecided(_)));
    }
}

#[test]
fn an_unknown_proxy_address_is_undecided_and_a_known_one_decided() {
    let through = |among: &[&str]| {
        let mut path = at(
            PointKind::Ztunnel,
            &[allow(vec![from(&[("ipBlocks", "10.0.0.0/8")])])],
        );
        path.points[0].seen.source_ip = IpSeen::Of {
            owner: "shop/waypoint".to_owned(),
            among: among.iter().map(|one| one.parse().unwrap()).collect(),
        };
        vec![path]
    };
    let open = || vec![at(PointKind::Ztunnel, &[])];
    let verdict = ask(open(), through(&[]));
    let Finding::Undecided(undecided) = &verdict.breaks else {
        panic!("{verdict:?}");
    };
    assert!(
        matches!(&undecided.reason, UndecidedReason::AddressesNotKnown { owners, .. } if owners == &["shop/waypoint"])
    );
    assert!(ask(open(), through(&["10.1.1.1", "10.1.1.2"])).is_same());
    let mixed = ask(open(), through(&["10.1.1.1", "11.1.1.2"]));
    let surroundings = &witness(&mixed.breaks).request.surroundings;
    assert_eq!(
        surroundings.values().next().unwrap().to_string(),
        "11.1.1.2"
    );
}

#[test]
fn a_limit_gives_undecided_and_no_hang() {
    let rules = (0..50)
        .map(|index| to(&[("paths", &format!("/{index}/*/x{index}"))]))
        .collect();
    let limits = Limits {
        nodes: 20,
        states: 20,
    };
    let verdict = compare(
        &question(vec![at(http(), &[allow(rules)])], vec![at(http(), &[])]),
        limits,
    );
    let Finding::Undecided(undecided) = verdict.opens else {
        panic!("{verdict:?}");
    };
    assert!(matches!(undecided.reason, UndecidedReason::TooLarge { .. }));
    assert_eq!(undecided.proved, Proved::Nothing);
}

/// The same words on `hosts` and on the header `host` are not the same question: only one ignores case.
#[test]
fn what_a_rewrite_hides_is_asked_by_field_and_not_by_words_alone() {
    let behind = |rule: Rule| {
        let mut path = at(http(), &[deny(vec![rule])]);
        path.points[0].seen.http = HttpSeen::Rewritten {
            by: "route".to_owned(),
            content: "a".into(),
        };
        vec![path]
    };
    let hosts = || behind(to(&[("hosts", "a.example")]));
    let header = || behind(when(Key::parse("request.headers[host]"), "a.example"));
    assert!(ask(hosts(), hosts()).is_same());
    assert!(matches!(
        ask(hosts(), header()).opens,
        Finding::Undecided(_)
    ));
}

#[test]
fn a_header_that_a_proxy_sets_is_equal_only_where_it_is_set_alike() {
    let key = || Key::parse("request.headers[X-Forwarded-Client-Cert]");
    let with = |how: &str| {
        let mut path = at(http(), &[allow(vec![when(key(), "*spiffe://a")])]);
        if !how.is_empty() {
            path.points[0].seen.headers_set =
                vec![("x-forwarded-client-cert".to_owned(), how.to_owned())];
        }
        vec![path]
    };
    assert!(ask(with("sidecar"), with("sidecar")).is_same());
    for other in ["waypoint", ""] {
        let verdict = ask(with("sidecar"), with(other));
        assert!(
            matches!(verdict.breaks, Finding::Undecided(_)),
            "{verdict:?}"
        );
    }
}
