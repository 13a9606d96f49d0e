//! The transcripts of the page that describes this migration (ambientmesh.io, "Migrating to
//! ambient mesh from Istio in sidecar mode"), line by line from the real binary.
//!
//! Each transcript is played on a mesh of our own (`tests/fixtures/page`) that looks like the
//! page's. What castoff says otherwise, and what it says besides, stands in a table with its
//! reason: a line that is in neither fails the test.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// A line that castoff prints where the page has another, or none.
struct Other {
    /// The page's line; `None` when castoff says something besides.
    page: Option<&'static str>,
    /// Castoff's line, or, when it ends in `…`, its beginning.
    castoff: &'static str,
    /// Why.
    #[expect(dead_code, reason = "it is for the reader of the table")]
    reason: &'static str,
}

const fn besides(castoff: &'static str, reason: &'static str) -> Other {
    Other {
        page: None,
        castoff,
        reason,
    }
}

/// Every run ends with these.
const SUMMARY: [Other; 4] = [
    besides("", "an empty line before the summary"),
    besides(
        "Read files …",
        "what was read, counted and left out is said on every run",
    ),
    besides(
        "Next, after …",
        "the page leaves the next command to its text",
    ),
    besides("$ castoff migrate …", "the same command, to run again"),
];

struct Mesh {
    files: tempfile::TempDir,
    output: tempfile::TempDir,
}

impl Mesh {
    fn of(fixtures: &[&str]) -> Self {
        let mesh = Self {
            files: tempfile::tempdir().unwrap(),
            output: tempfile::tempdir().unwrap(),
        };
        for name in fixtures {
            fs::copy(fixture(name), mesh.files.path().join(name)).unwrap();
        }
        mesh
    }

    /// Replaces text in one of its files: what `kubectl` would have done to the cluster.
    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.files.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold {from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// `kubectl apply` of a file that castoff wrote.
    fn apply(&self, written: &str) {
        fs::copy(
            self.output.path().join(written),
            self.files.path().join(written),
        )
        .unwrap();
    }

    /// What `castoff migrate` prints, with the page's output folder in place of ours.
    fn migrate(&self, arguments: &[&str]) -> Vec<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(["migrate", "--from-files"])
            .arg(self.files.path())
            .arg("--output-dir")
            .arg(self.output.path())
            .args(arguments)
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let folder = self.output.path().to_str().unwrap();
        let lines = printed
            .replace(folder, "/tmp/istio-migrate")
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        without_proof(lines)
    }
}

/// Takes out what the page has not: the proof beneath recommendations and phases, which must say that every
/// state and every server is the same.
fn without_proof(mut lines: Vec<String>) -> Vec<String> {
    let start = lines
        .iter()
        .position(|line| line.starts_with("• Access compared with the baseline "))
        .expect("every run is proved");
    let length = lines[start..]
        .iter()
        .position(|line| line.is_empty())
        .expect("the summary follows");
    for line in lines.drain(start..=start + length).skip(1) {
        let same =
            line.starts_with("✅ ") && (line.ends_with(" the same") || line.contains(": same by "));
        let known = ["ℹ️ newly trusted ", "• Servers, "];
        let known = known.iter().any(|start| line.starts_with(start));
        assert!(same || known || line.is_empty(), "{line}");
    }
    lines.retain(|line| line != "✅ same: nobody gains or loses access");
    lines
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/page")
        .join(name)
}

/// Compares what was printed with the page, up to the lines that the tables name.
fn compare(page: &str, printed: &[String], others: &[&[Other]]) {
    let others: Vec<&Other> = others.iter().copied().flatten().collect();
    let mut used = BTreeSet::new();
    let mut expected = page.trim().lines().map(str::trim).peekable();
    let mut surprises = Vec::new();
    for line in printed {
        if expected.peek() == Some(&line.as_str()) {
            expected.next();
            continue;
        }
        let known = others.iter().position(|other| {
            other.castoff.strip_suffix('…').map_or_else(
                || line == other.castoff,
                |beginning| line.starts_with(beginning),
            ) && other.page.is_none_or(|page| expected.peek() == Some(&page))
        });
        match known {
            Some(index) => {
                if others[index].page.is_some() {
                    expected.next();
                }
                used.insert(index);
            }
            None => surprises.push(line),
        }
    }
    assert_eq!(surprises, Vec::<&String>::new(), "printed and not expected");
    assert_eq!(
        expected.collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "lines of the page, from the first that is not printed"
    );
    let unused: Vec<&str> = others
        .iter()
        .enumerate()
        .filter(|(index, _)| !used.contains(index))
        .map(|(_, other)| other.castoff)
        .collect();
    assert_eq!(unused, Vec::<&str>::new(), "in the table and not printed");
}

#[test]
fn a_mesh_that_is_ready_passes_the_first_two_phases() {
    let mesh = Mesh::of(&["ready.yaml", "hello-world.yaml"]);
    let printed = mesh.migrate(&[]);
    let (first, rest) = printed.split_at(7);
    compare(
        "• Starting phase pre-reqs...
        ✅ Phase pre-reqs succeeded!
        ✅ Cluster CNI compatibility: passed
        ✅ Istio version compatibility: passed
        ✅ Multicluster usage compatibility: passed
        ✅ Virtual Machine usage compatibility: passed
        ✅ SPIRE usage compatibility: passed",
        first,
        &[],
    );
    compare(
        "• Starting phase cluster-setup...
        ✅ Phase cluster-setup succeeded!
        ✅ Ambient mode enabled: passed
        ✅ DaemonSets deployed: passed
        ✅ Sidecars support ambient mode: passed
        ✅ Required CRDs installed: passed",
        &rest[..6],
        &[],
    );
}

#[test]
fn a_cluster_without_ambient_fails_the_setup_with_six_sidecars() {
    let mesh = Mesh::of(&["without-ambient.yaml"]);
    let installation = "the page gives the commands in its text, we with this cluster's values";
    compare(
        "• Starting phase cluster-setup...
        ❌ Phase cluster-setup failed!
        ❌ Ambient mode enabled: failed. 1 error occurred:
        * Istiod istio-system/istiod must have 'PILOT_ENABLE_AMBIENT=true'. Upgrade Istio with '--set profile=ambient'.
        ❌ DaemonSets deployed: failed. 2 errors occurred:
        * ztunnel not found
        * Istio CNI agent not found
        ❌ Sidecars support ambient mode: failed. 6 errors occurred:
        * Sidecar default/details-v1-79dfbd6fff-gvmh7 is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the pod.
        * Sidecar default/productpage-v1-dffc47f64-tt9r8 is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the pod.
        * Sidecar default/ratings-v1-65f797b499-fsxqf is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the pod.
        * Sidecar default/reviews-v1-5c4d6d447c-tz928 is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the pod.
        * Sidecar default/reviews-v2-65cb66b45c-dzptm is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the pod.
        * Sidecar default/reviews-v3-f68f94645-h9c8l is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the pod.
        ✅ Required CRDs installed: passed",
        &mesh.migrate(&["--phase", "cluster-setup"]),
        &[
            &SUMMARY,
            &[
                besides("ℹ️ What to do:", installation),
                besides("$ istioctl install --set profile=ambient …", installation),
                besides(
                    "* either with istioctl, adding the options …",
                    "an install without the present options would drop them",
                ),
                besides("* or with Helm, in this order:", installation),
                besides("$ helm upgrade istiod istio/istiod …", installation),
                besides("$ helm install istio-cni istio/cni …", installation),
                besides("$ helm install ztunnel istio/ztunnel …", installation),
                besides(
                    "$ kubectl rollout restart deployment -n default …",
                    "each owner that must restart, not a whole namespace",
                ),
                besides("$ sh /tmp/istio-migrate/commands.sh", "the restarts as a file"),
                besides(
                    "❓ not proved: phase cluster-setup failed, so that what it asks for is not played",
                    "an installation is not played in memory",
                ),
            ],
        ],
    );
}

#[test]
fn hello_world_needs_a_waypoint_for_its_virtual_service() {
    let mesh = Mesh::of(&["ready.yaml", "hello-world.yaml"]);
    compare(
        r#"• Starting phase deploy-waypoints...
        ⚠️ Phase deploy-waypoints has recommendations!
        🔮 Namespace "application" may require a waypoint for the following services:
        * Service "application/hello-world" depends on VirtualService "application/hello-world"
        ℹ️ Generated waypoints written to /tmp/istio-migrate/recommended-waypoints.yaml"#,
        &mesh.migrate(&["--phase", "deploy-waypoints"]),
        &[
            &SUMMARY,
            &[besides(
                "$ kubectl apply -f /tmp/istio-migrate/recommended-waypoints.yaml",
                "the page has it in its text",
            )],
        ],
    );
    let written = fs::read_to_string(mesh.output.path().join("recommended-waypoints.yaml"));
    assert_eq!(
        written.unwrap(),
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: waypoint
  namespace: application
spec:
  gatewayClassName: istio-waypoint
  listeners:
  - name: mesh
    port: 15008
    protocol: HBONE
"
    );
}

/// The four last phases on one mesh: each continues from what castoff wrote in the one before.
#[test]
fn the_policies_of_app1_move_to_its_waypoint_and_its_sidecars_go() {
    let mesh = Mesh::of(&["ready.yaml", "app1.yaml", "app1-allow-nothing.yaml"]);
    compare(
        "• Starting phase migrate-policies...
        ⚠️ Phase migrate-policies has recommendations!
        ⚠️ Sidecar/legacy/sidecar will be removed in a later step: Found unsupported configurations:
        * Configuration scoping is detected. Typically, this is used for scalability purposes, which is not necessary with ambient.
        🔮 Add AuthorizationPolicy/app1/echo-from-waypoint: Service/app1/echo must allow traffic from its waypoint
        🔮 Apply AuthorizationPolicy/app1/echo-legacy-policies: Existing configuration is copied from policy app1/legacy-policies to be enforced at the waypoint.
        🔮 Apply AuthorizationPolicy/app1/echo-policies: Existing configuration is copied from policy app1/policies to be enforced at the waypoint.
        🔮 Apply AuthorizationPolicy/app1/waypoint-allow-nothing: Existing configuration is copied from namespace policy app1/allow-nothing to be enforced at the waypoint.
        ℹ️ Recommended policies written to /tmp/istio-migrate/recommended-policies.yaml",
        &mesh.migrate(&["--phase", "migrate-policies"]),
        &[
            &SUMMARY,
            &[besides(
                "$ kubectl apply -f /tmp/istio-migrate/recommended-policies.yaml",
                "the page has it in its text",
            )],
        ],
    );

    mesh.apply("recommended-policies.yaml");
    compare(
        "• Starting phase use-waypoints...
        ⚠️ Phase use-waypoints has recommendations!
        ⚠️ Warning: detected waypoint app1/waypoint but it is not used by anything
        🔮 Detected namespace app1 requires a waypoint, but not configured to use one. Configure it with: kubectl label namespace app1 istio.io/use-waypoint=waypoint",
        &mesh.migrate(&["--phase", "use-waypoints"]),
        &[
            &SUMMARY,
            &[besides(
                "$ sh /tmp/istio-migrate/commands.sh",
                "the label command as a file",
            ), besides(
                "ℹ️ put aside, because this run did not write it: /tmp/istio-migrate/recommended-policies.yaml.old",
                "what an earlier run wrote must not be applied again by `kubectl apply -f FOLDER`",
            )],
        ],
    );

    mesh.change(
        "app1.yaml",
        "kubernetes.io/metadata.name: app1",
        "kubernetes.io/metadata.name: app1, istio.io/use-waypoint: waypoint",
    );
    compare(
        "• Starting phase policy-simplification...
        ⚠️ Phase policy-simplification has recommendations!
        🔮 AuthorizationPolicy was migrated and can be deleted: kubectl delete authorizationpolicies.security.istio.io -n app1 allow-nothing
        🔮 AuthorizationPolicy was migrated and can be deleted: kubectl delete authorizationpolicies.security.istio.io -n app1 legacy-policies
        🔮 AuthorizationPolicy was migrated and can be deleted: kubectl delete authorizationpolicies.security.istio.io -n app1 policies",
        &first_phase(&mesh.migrate(&["--phase", "policy-simplification"])),
        &[&[besides(
            "🔮 Sidecar has no effect any more and can be deleted: kubectl delete sidecars.networking.istio.io -n legacy sidecar",
            "the later step that migrate-policies announced; the page has none",
        )]],
    );

    fs::remove_file(mesh.files.path().join("app1-allow-nothing.yaml")).unwrap();
    for original in ["policies", "legacy-policies"] {
        mesh.change(
            "app1.yaml",
            &format!("kind: AuthorizationPolicy\nmetadata:\n  name: {original}\n"),
            &format!("kind: Deleted\nmetadata:\n  name: {original}\n"),
        );
    }
    compare(
        "• Starting phase remove-sidecars...
        ⚠️ Phase remove-sidecars has recommendations!
        🔮 namespace app1 can disable its sidecars: kubectl label ns app1 istio-injection- istio.io/dataplane-mode=ambient
        ⚠️ sidecar found for Pod app1/echo-7fb78cb7c5-plsjl",
        &mesh.migrate(&["--phase", "remove-sidecars"]),
        &[
            &SUMMARY,
            &[
                besides("ℹ️ What to do:", "what follows from the lines above"),
                besides(
                    "$ kubectl rollout restart deployment -n app1 echo",
                    "labels change new pods only; the page waits for the next restart",
                ),
                besides("$ sh /tmp/istio-migrate/commands.sh", "label and restart as a file"),
            ],
        ],
    );
}

/// The lines of the first phase that was printed. An optional phase does not end the run, and the
/// page shows each phase alone.
fn first_phase(printed: &[String]) -> Vec<String> {
    let starts = |line: &String| line.starts_with("• Starting");
    printed
        .iter()
        .enumerate()
        .take_while(|(index, line)| *index == 0 || !(starts(line) || line.is_empty()))
        .map(|(_, line)| line.clone())
        .collect()
}
