//! Rows of servers between states of one mesh, captured from a real istiod.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff_authz::verdict::Limits;

fn mesh(state: &str) -> Option<Mesh> {
    let folder = PathBuf::from("../shared/corpus/path-goldens")
        .join(state)
        .join("snapshot");
    if !Path::new(&folder).is_dir() {
        eprintln!("SKIPPED: {} is not here", folder.display());
        return None;
    }
    let snapshot = castoff::source::read_files(&[folder]).expect("readable");
    Some(Mesh::build(&snapshot, &MeshOverrides::default()))
}

fn verdicts(before: &str, now: &str) -> Option<Vec<(String, RowVerdict)>> {
    let (baseline, present) = (mesh(before)?, mesh(now)?);
    let states = States {
        baseline: &baseline,
        present: &present,
    };
    let rows = rows(&states, Limits::default());
    for row in &rows {
        for answer in &row.differences {
            eprintln!(
                "{before} -> {now} {} {:?} {} {:?}:{}",
                row.server,
                row.verdict(),
                answer.callers,
                answer.content,
                answer.port
            );
            for finding in [&answer.verdict.opens, &answer.verdict.breaks] {
                if let castoff_authz::verdict::Finding::Witness(witness) = finding {
                    for line in
                        castoff::prove::tell::witness(witness, &answer.baseline, &answer.present)
                    {
                        eprintln!("    {line}");
                    }
                } else {
                    for line in castoff::prove::tell::undecided(finding) {
                        eprintln!("    {line}");
                    }
                }
            }
        }
    }
    Some(
        rows.iter()
            .map(|row| (row.server.to_string(), row.verdict()))
            .collect(),
    )
}

#[test]
fn a_state_is_the_same_as_itself() {
    for state in [
        "01-sidecars",
        "05-two-generations",
        "07-all-ambient",
        "09-headless",
        "18-tokens",
    ] {
        let Some(verdicts) = verdicts(state, state) else {
            return;
        };
        for (server, verdict) in verdicts {
            assert_eq!(verdict, RowVerdict::Same, "{state} {server}");
        }
    }
}

fn of(list: &[(String, RowVerdict)], server: &str) -> RowVerdict {
    list.iter()
        .find(|(name, _)| name == server)
        .map(|(_, verdict)| *verdict)
        .expect(server)
}

#[test]
fn an_unbound_waypoint_with_copies_and_guard_changes_nobodys_access() {
    let Some(verdicts) = verdicts("01-sidecars", "02-waypoint-unbound") else {
        return;
    };
    for (server, verdict) in verdicts {
        assert_eq!(verdict, RowVerdict::Same, "{server}");
    }
}

/// The copies leave out the root namespace's DENY: through the waypoint the ztunnel or sidecar of
/// feed sees the waypoint's identity, so that the quarantined caller gets in.
#[test]
fn a_deny_that_was_not_copied_opens_what_stands_behind_the_waypoint() {
    let Some(verdicts) = verdicts("01-sidecars", "04-callers-half-ambient") else {
        return;
    };
    assert_eq!(of(&verdicts, "shop/feed"), RowVerdict::Opens);
    assert_eq!(of(&verdicts, "shop/cart"), RowVerdict::Same);
    assert_eq!(of(&verdicts, "shop/ledger"), RowVerdict::Same);
}

#[test]
fn full_copies_keep_every_server_the_same_while_callers_move() {
    let Some(verdicts) = verdicts("01-sidecars", "21-full-copy-callers-half-ambient") else {
        return;
    };
    for server in ["shop/cart", "shop/feed", "shop/feed-next", "shop/ledger"] {
        assert_eq!(of(&verdicts, server), RowVerdict::Same, "{server}");
    }
}

/// Nothing locks feed there: whoever dials past the waypoint is no longer refused.
#[test]
fn deleted_originals_without_a_lock_open_the_pods() {
    let Some(verdicts) = verdicts("01-sidecars", "07-all-ambient") else {
        return;
    };
    assert_eq!(of(&verdicts, "shop/feed"), RowVerdict::Opens);
    // An L7-only DENY refused every TCP connection at the sidecar and refuses nothing at ztunnel.
    assert_eq!(of(&verdicts, "shop/ledger"), RowVerdict::Opens);
}

/// Installing ambient mode and restarting sidecars for HBONE is no change of access.
#[test]
fn a_mesh_made_ready_for_ambient_gives_everybody_the_access_they_had() {
    let corpus = PathBuf::from("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!("SKIPPED: {} is not here", corpus.display());
        return;
    }
    for name in [
        "aws-workshop",
        "bookinfo",
        "boutique-security-intro",
        "hello-istio-secure",
        "kiali-travels",
        "online-boutique",
        "redhat-tutorial",
    ] {
        let read = |suffix: &str| {
            let folder = corpus.join(format!("live-{name}-{suffix}"));
            Mesh::build(
                &castoff::source::read_files(&[folder]).expect("readable"),
                &MeshOverrides::default(),
            )
        };
        let (baseline, present) = (read("sidecar"), read("ambient-ready"));
        for row in rows(
            &States {
                baseline: &baseline,
                present: &present,
            },
            Limits::default(),
        ) {
            for answer in &row.differences {
                for finding in [&answer.verdict.opens, &answer.verdict.breaks] {
                    if let castoff_authz::verdict::Finding::Witness(witness) = finding {
                        eprintln!(
                            "{:?}",
                            castoff::prove::tell::witness(
                                witness,
                                &answer.baseline,
                                &answer.present
                            )
                        );
                    }
                    eprintln!("{:?}", castoff::prove::tell::undecided(finding));
                }
            }
            assert_eq!(row.verdict(), RowVerdict::Same, "{name} {}", row.server);
        }
    }
}
