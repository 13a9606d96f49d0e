//! Reports made by hand for the tests of renderers.

use super::{Parts, Report};
use crate::finding::{
    Artefact, CheckOutcome, CheckResult, Code, Finding, Level, Phase, PhaseOutcome, PhaseResult,
    Remedy, Subject,
};
use crate::snapshot::{Gap, Kind, ObjectName, Origin, Problem, ProblemLevel};
use crate::waiver::Waivers;

pub(crate) fn problem(level: ProblemLevel) -> Problem {
    Problem {
        origin: Some(Origin::File {
            path: "manifests/pods.yaml".into(),
            line: 12,
        }),
        column: Some(3),
        level,
        message: "a key without a value; close the bracket".to_owned(),
    }
}

fn check(name: &'static str, outcome: CheckOutcome, findings: Vec<Finding>) -> CheckResult {
    CheckResult {
        code: Code("CAST0101"),
        name,
        outcome,
        findings,
    }
}

fn phase(phase: Phase, outcome: PhaseOutcome, checks: Vec<CheckResult>) -> PhaseResult {
    PhaseResult {
        phase,
        outcome,
        checks,
        artefacts: Vec::new(),
    }
}

pub(crate) fn parts_of(levels: &[Level], unchecked: bool) -> Parts {
    let findings = levels
        .iter()
        .map(|level| Finding::new(Code("CAST0101"), *level, format!("{level:?}")))
        .collect();
    let outcome = if unchecked {
        CheckOutcome::CouldNotCheck(vec!["pods: forbidden".to_owned()])
    } else {
        CheckOutcome::Passed
    };
    Parts {
        input: "files manifests".to_owned(),
        phases: vec![phase(
            Phase::PreRequisites,
            PhaseOutcome::Succeeded,
            vec![check("Some check", outcome, findings)],
        )],
        invocation: "castoff migrate --from-files manifests".to_owned(),
        ..Parts::default()
    }
}

pub(crate) fn report_of(levels: &[Level], unchecked: bool) -> Report {
    Report::new(parts_of(levels, unchecked))
}

pub(crate) fn waiver_for(object: &str) -> Waivers {
    let text = format!(
        "apiVersion: castoff/v1\nkind: Waivers\nwaivers:\n- object: {object}\n  code: CAST0301\n  \
         reason: retired soon\n"
    );
    Waivers::parse("castoff.yaml", &text, |_| true).expect("the text is a waiver file")
}

pub(crate) fn waypoint_manifest(namespace: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: waypoint\n  \
         namespace: {namespace}\nspec:\n  gatewayClassName: istio-waypoint\n"
    )
}

pub(crate) fn waypoints_for(namespaces: &[&str]) -> PhaseResult {
    let findings = namespaces
        .iter()
        .map(|namespace| {
            let origin = Origin::File {
                path: "manifests/namespaces.yaml".into(),
                line: 4,
            };
            Finding::new(
                Code("CAST0301"),
                Level::Recommendation,
                format!(
                    "Namespace \"{namespace}\" may require a waypoint for the following services:"
                ),
            )
            .about(
                Kind::Namespace,
                &ObjectName::new("", namespace),
                Some(&origin),
            )
            .detail(format!(
                "Service \"{namespace}/echo\" depends on VirtualService \"{namespace}/echo\""
            ))
            .fact("services", 1)
            .remedy(Remedy::Apply {
                file: "recommended-waypoints.yaml",
                object: Subject {
                    kind: Kind::Gateway,
                    name: ObjectName::new(namespace, "waypoint"),
                    field: None,
                    origin: None,
                },
            })
        })
        .collect();
    let manifests: Vec<String> = namespaces
        .iter()
        .map(|name| waypoint_manifest(name))
        .collect();
    let mut result = phase(
        Phase::DeployWaypoints,
        PhaseOutcome::Recommends,
        vec![check("", CheckOutcome::Passed, findings)],
    );
    result.artefacts.push(Artefact {
        file: "recommended-waypoints.yaml",
        announced_as: "Generated waypoints written to",
        content: manifests.join("---\n"),
    });
    result
}

/// A report in which every kind of line occurs.
pub(crate) fn full() -> Report {
    let crds = Finding::new(Code("CAST0202"), Level::Error, "ztunnel not found");
    let mut many = Finding::new(
        Code("CAST0203"),
        Level::Error,
        "Sidecars of Deployment default/echo (2 pods) are missing 'ENABLE_HBONE'.",
    )
    .about(
        Kind::Deployment,
        &ObjectName::new("default", "echo"),
        Some(&Origin::File {
            path: "manifests/echo.yaml".into(),
            line: 7,
        }),
    )
    .remedy(Remedy::command_without_undo(
        "kubectl rollout restart deployment -n default echo",
    ))
    .remedy(Remedy::Advice("upgrade Istio first".to_owned()));
    many.names = vec!["default/echo-1".to_owned(), "default/echo-2".to_owned()];
    let label = Finding::new(
        Code("CAST0501"),
        Level::Recommendation,
        "Detected namespace app1 requires a waypoint, but not configured to use one. Configure it \
         with: kubectl label namespace app1 istio.io/use-waypoint=waypoint",
    )
    .about(Kind::Namespace, &ObjectName::new("", "app1"), None)
    .remedy(Remedy::command(
        "kubectl label namespace app1 istio.io/use-waypoint=waypoint",
        "kubectl label namespace app1 istio.io/use-waypoint-",
    ));
    let mut setup = phase(
        Phase::ClusterSetup,
        PhaseOutcome::Failed,
        vec![
            check("DaemonSets deployed", CheckOutcome::Failed, vec![crds]),
            check(
                "Sidecars support ambient mode",
                CheckOutcome::Failed,
                vec![many],
            ),
            check(
                "Required CRDs installed",
                CheckOutcome::CouldNotCheck(vec![
                    "customresourcedefinitions.apiextensions.k8s.io: not among the input"
                        .to_owned(),
                ]),
                Vec::new(),
            ),
            check(
                "Versions",
                CheckOutcome::Warned,
                vec![Finding::new(
                    Code("CAST0204"),
                    Level::Warning,
                    "a <tag> & \"quotes\" | pipes",
                )],
            ),
        ],
    );
    setup.checks[3].findings.push(Finding::new(
        Code("CAST0204"),
        Level::Note,
        "for your information",
    ));
    Report::new(Parts {
        input: "files manifests".to_owned(),
        phases: vec![
            phase(
                Phase::PreRequisites,
                PhaseOutcome::Succeeded,
                vec![check(
                    "Istio version compatibility",
                    CheckOutcome::Passed,
                    Vec::new(),
                )],
            ),
            setup,
            waypoints_for(&["app1"]),
            phase(
                Phase::UseWaypoints,
                PhaseOutcome::Recommends,
                vec![check("", CheckOutcome::Passed, vec![label])],
            ),
        ],
        gaps: vec![Gap {
            kind: Kind::Pod,
            namespace: Some("secret".to_owned()),
            except: Vec::new(),
            reason: "forbidden: cannot list pods".to_owned(),
        }],
        problems: vec![problem(ProblemLevel::Error)],
        invocation: "castoff migrate --from-files manifests".to_owned(),
        ..Parts::default()
    })
}
