//! Workloads that only the second of two states has: who may call them, and whom they may call for who they are.
//!
//! In: two states. Out: a [`Newcomer`] each. Invariant: as a server a newcomer is compared with one that nobody could
//! call; as a caller with an identity that no policy names: what anybody of the mesh may do is nothing that came with it.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::path::{EnforcementPath, Point, PointKind, PrincipalSeen};
use castoff_authz::verdict::{self, Comparison, Finding, Identities, Limits};

use super::callers::{CallerClass, Member, WORKLOADS};
use super::identities::Mentions;
use super::network::{Party, Pods};
use super::question::{Question, Ways, When, representatives};
use super::row::PortAnswer;
use super::rows::{Comparer, States};
use super::side::Side;
use super::undeclared::PortKnown;
use super::{Caller, CallerMode, Content, tell};
use crate::mesh::{DataPlaneMode, Mesh, Role, WorkloadId};
use crate::snapshot::{Labels, ObjectName};

/// A workload that was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// Which.
    pub name: ObjectName,
    /// Who may call it: answers whose gain is the access to it.
    pub callable: Vec<PortAnswer>,
    /// Whether it has a port that something names or leads to.
    pub has_ports: bool,
    /// Whom it may call for who it is.
    pub calls: Vec<Call>,
    /// Its identity, and who had it before: sentences.
    pub account: String,
    /// Comparisons made.
    pub compared: usize,
}

impl Newcomer {
    /// Keeps what is about servers of these namespaces.
    pub fn keep_servers(&mut self, includes: impl Fn(&str) -> bool) {
        self.calls.retain(|call| includes(&call.server.namespace));
        if !includes(&self.name.namespace) {
            self.callable.clear();
        }
    }
}

/// Access of a newcomer that another identity would not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whom it may call.
    pub server: ObjectName,
    /// At which of the pods' ports.
    pub port: u16,
    /// Which pods.
    pub pods: DataPlaneMode,
    /// What is sent.
    pub content: Content,
    /// A request, and by which rule it is let in; or why it is not decided.
    pub lines: Vec<String>,
    /// Whether it was decided.
    pub is_decided: bool,
}

/// A namespace and an account that no policy names.
const NOWHERE: &str = "of-nobody-whom-policies-name";

/// Names that are written out.
const MOST_NAMES: usize = 6;

/// Every workload that only the second state has, sorted by name.
pub fn newcomers(states: &States<'_>, limits: Limits) -> Vec<Newcomer> {
    let known: BTreeSet<&ObjectName> = names(states.baseline);
    let mesh = states.present;
    let new: BTreeMap<&ObjectName, WorkloadId> = mesh
        .workload_ids()
        .map(|id| (&mesh.workload(id).name, id))
        .filter(|(name, id)| !known.contains(name) && calls_somebody(&mesh.workload(*id).role))
        .collect();
    if new.is_empty() {
        return Vec::new();
    }
    let side = Side::of(mesh);
    let comparer = Comparer::new(&side, mesh, limits);
    let mut found: BTreeMap<WorkloadId, Newcomer> = new
        .into_iter()
        .map(|(name, id)| {
            let mut newcomer = Newcomer {
                name: name.clone(),
                callable: Vec::new(),
                has_ports: false,
                calls: Vec::new(),
                account: account(states, id),
                compared: 0,
            };
            if mesh.workload(id).is_mesh_application() {
                comparer.callable(&mut newcomer, id);
            }
            (id, newcomer)
        })
        .collect();
    let old = mesh
        .workload_ids()
        .filter(|id| !found.contains_key(id) && mesh.workload(*id).is_mesh_application());
    let classes = comparer.classes_of(&found);
    for server in old.collect::<Vec<_>>() {
        comparer.called(&mut found, &classes, server);
    }
    let mut all: Vec<Newcomer> = found.into_values().collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all
}

fn names(mesh: &Mesh) -> BTreeSet<&ObjectName> {
    mesh.workloads.iter().map(|one| &one.name).collect()
}

fn calls_somebody(role: &Role) -> bool {
    !matches!(
        role,
        Role::Waypoint(_) | Role::Ztunnel | Role::CniAgent | Role::ControlPlane
    )
}

/// Its identity, and who had it.
fn account(states: &States<'_>, id: WorkloadId) -> String {
    let workload = states.present.workload(id);
    let principal = workload.principal(&states.present.settings.trust_domain);
    let before = &states.baseline.settings.trust_domain;
    let had: Vec<String> = (states.baseline.workloads.iter())
        .filter(|one| one.principal(before) == principal)
        .map(|one| one.name.to_string())
        .collect();
    let modes: BTreeSet<CallerMode> = (workload.generations.iter())
        .map(|one| Caller::mode_of(&workload.role, one.mode))
        .collect();
    if modes == BTreeSet::from([CallerMode::Plain]) {
        return "it runs outside the mesh, without identity".to_owned();
    }
    match had.is_empty() {
        true => format!("its identity {principal} is new: no workload ran under it before"),
        false => format!(
            "its identity {principal} is not new: {} had it",
            first(&had)
        ),
    }
}

fn first(names: &[String]) -> String {
    match names.len() {
        0..=MOST_NAMES => names.join(", "),
        more => format!(
            "{} and {} more",
            names[..MOST_NAMES].join(", "),
            more - MOST_NAMES
        ),
    }
}

impl Comparer<'_> {
    /// Who may call a server that was not there.
    fn callable(&self, newcomer: &mut Newcomer, id: WorkloadId) {
        let generations = 0..self.present.mesh.workload(id).generations.len();
        for question in generations.flat_map(|generation| self.questions((id, id), generation)) {
            if question.known == PortKnown::Unknown {
                continue;
            }
            newcomer.has_ports = true;
            let mut ways = self.ways(question);
            for class in &self.classes {
                for answer in self.callable_by(newcomer, &mut ways, class) {
                    // Whoever may send requests may open a connection: told once.
                    let told = newcomer.callable.iter().any(|one| {
                        (one.port, one.callers, one.generation)
                            == (answer.port, answer.callers, answer.generation)
                            && one.content == Content::Http
                            && one.told_of_gain == answer.told_of_gain
                            && matches!(one.verdict.opens, Finding::Witness(_))
                    });
                    if !told {
                        newcomer.callable.push(answer);
                    }
                }
            }
        }
    }

    fn callable_by(
        &self,
        newcomer: &mut Newcomer,
        ways: &mut Ways,
        class: &CallerClass,
    ) -> Vec<PortAnswer> {
        let question = ways.question;
        let Question { now, content, .. } = question;
        let [_, addresses] = self.addresses(class, ways);
        let mut answers = Vec::new();
        for (member, identities) in self.groups(class, now, now) {
            newcomer.compared += 1;
            let present = self.paths(When::Now, class, member, &addresses, ways);
            let baseline: Vec<EnforcementPath> = present
                .iter()
                .map(|path| EnforcementPath {
                    points: vec![not_there(&newcomer.name)],
                    ..path.clone()
                })
                .collect();
            let ask = |identity: Identities| {
                let comparison = Comparison {
                    caller: verdict::Caller {
                        identity,
                        addresses: Vec::new(),
                    },
                    http: content == Content::Http,
                    baseline: baseline.clone(),
                    present: present.clone(),
                };
                self.answered.compare(&comparison, self.limits)
            };
            let verdict = ask(representatives(&identities, &baseline, &present));
            if verdict.opens == Finding::Never {
                continue;
            }
            let told_of_gain = match identities.as_ref() {
                Identities::Only(all) => {
                    let groups = Mentions::of(&present).groups(all).into_iter();
                    let let_in = groups.filter(|group| {
                        let one = group.first().map(|index| all[*index].clone());
                        let verdict = ask(Identities::Only(one.into_iter().collect()));
                        verdict.opens != Finding::Never
                    });
                    let principals: BTreeSet<&String> =
                        let_in.flatten().map(|index| &all[index]).collect();
                    let mut names = self.named(class, &principals);
                    names.retain(|name| *name != newcomer.name.to_string());
                    if names.is_empty() {
                        continue;
                    }
                    vec![format!("let in with some request: {}", first(&names))]
                }
                _ => Vec::new(),
            };
            let workload = self.present.mesh.workload(now.workload);
            let pods = (now.port, workload.generations[now.generation].mode);
            let paths = [baseline, present];
            answers.push(PortAnswer {
                told_of_gain,
                ..PortAnswer::new(pods, content, class.words, paths, verdict)
            });
        }
        answers
    }

    /// The workloads of a class with these identities.
    fn named(&self, class: &CallerClass, principals: &BTreeSet<&String>) -> Vec<String> {
        let mesh = self.present.mesh;
        let members = class.members.iter().filter_map(|member| match member {
            Member::Workload { principal, now, .. } if principals.contains(principal) => {
                Some(mesh.workload(now.0).name.to_string())
            }
            _ => None,
        });
        let sorted: BTreeSet<String> = members.collect();
        sorted.into_iter().collect()
    }

    /// Which newcomers may call a server that was there for who they are.
    fn called(
        &self,
        newcomers: &mut BTreeMap<WorkloadId, Newcomer>,
        classes: &[CallerClass],
        server: WorkloadId,
    ) {
        let generations = 0..self.present.mesh.workload(server).generations.len();
        for question in generations.flat_map(|one| self.questions((server, server), one)) {
            if question.known == PortKnown::Unknown {
                continue;
            }
            let mut ways = self.ways(question);
            for class in classes {
                self.called_by(newcomers, &mut ways, class);
            }
        }
    }

    /// The newcomers, by how they arrive.
    fn classes_of(&self, newcomers: &BTreeMap<WorkloadId, Newcomer>) -> Vec<CallerClass> {
        let new = |member: &Member| match member {
            Member::Workload { now, .. } => newcomers.contains_key(&now.0),
            Member::OtherIdentities | Member::Outsiders => false,
        };
        let classes = self.classes.iter().filter_map(|class| {
            let members: Vec<Member> = class
                .members
                .iter()
                .filter(|one| new(one))
                .cloned()
                .collect();
            let principals: BTreeSet<String> = members
                .iter()
                .filter_map(|member| match member {
                    Member::Workload { principal, .. } => Some(principal.clone()),
                    _ => None,
                })
                .collect();
            let identities = match class.identities {
                Identities::Only(_) => Identities::Only(principals.into_iter().collect()),
                _ => Identities::Nobody,
            };
            (!members.is_empty()).then(|| CallerClass {
                identities,
                members,
                words: WORKLOADS,
                ..class.clone_without_members()
            })
        });
        classes.collect()
    }

    fn called_by(
        &self,
        newcomers: &mut BTreeMap<WorkloadId, Newcomer>,
        ways: &mut Ways,
        class: &CallerClass,
    ) {
        let Question { now, content, .. } = ways.question;
        let mesh = self.present.mesh;
        let [_, addresses] = self.addresses(class, ways);
        let stranger = Party::Pods(Pods {
            namespace: NOWHERE,
            labels: &Labels::default(),
            ports: &[],
        });
        let arrival = (class.now, &class.is_past);
        let mut baseline = self
            .present
            .paths(arrival, stranger, now, &addresses, content);
        let trust_domain = &mesh.settings.trust_domain;
        let nobody = format!("{trust_domain}/ns/{NOWHERE}/sa/{NOWHERE}");
        for point in baseline.iter_mut().flat_map(|path| &mut path.points) {
            if point.seen.principal == PrincipalSeen::Callers {
                point.seen.principal = PrincipalSeen::Fixed(nobody.clone());
            }
        }
        for (member, identities) in self.groups(class, now, now) {
            let present = self.paths(When::Now, class, member, &addresses, ways);
            let groups: Vec<Identities> = match identities.as_ref() {
                Identities::Only(all) => Mentions::of(baseline.iter().chain(&present))
                    .groups(all)
                    .into_iter()
                    .map(|group| {
                        Identities::Only(
                            group.into_iter().map(|index| all[index].clone()).collect(),
                        )
                    })
                    .collect(),
                other => vec![other.clone()],
            };
            for group in groups {
                let identity = representatives(&group, &baseline, &present);
                let comparison = Comparison {
                    caller: verdict::Caller {
                        identity,
                        addresses: Vec::new(),
                    },
                    http: content == Content::Http,
                    baseline: baseline.clone(),
                    present: present.clone(),
                };
                let finding = self.answered.compare(&comparison, self.limits).opens;
                for newcomer in self.of_group(class, member, &group, newcomers) {
                    let Some(newcomer) = newcomers.get_mut(&newcomer) else {
                        continue;
                    };
                    newcomer.compared += 1;
                    let Some((lines, is_decided)) = told(&finding, &baseline, &present) else {
                        continue;
                    };
                    let name = &mesh.workload(now.workload).name;
                    let known = newcomer.calls.iter().any(|one| {
                        (&one.server, one.port, one.is_decided) == (name, now.port, is_decided)
                    });
                    if !known {
                        newcomer.calls.push(Call {
                            server: name.clone(),
                            port: now.port,
                            pods: mesh.workload(now.workload).generations[now.generation].mode,
                            content,
                            lines,
                            is_decided,
                        });
                    }
                }
            }
        }
    }

    /// The newcomers of a class who have these identities, and whom NetworkPolicies treat as this member where
    /// there are any.
    fn of_group(
        &self,
        class: &CallerClass,
        member: &Member,
        group: &Identities,
        newcomers: &BTreeMap<WorkloadId, Newcomer>,
    ) -> Vec<WorkloadId> {
        let ids = class.members.iter().filter_map(|one| match one {
            Member::Workload { principal, now, .. } => {
                let alike = match group {
                    Identities::Only(all) => all.contains(principal),
                    _ => one == member,
                };
                (alike && newcomers.contains_key(&now.0)).then_some(now.0)
            }
            _ => None,
        });
        let sorted: BTreeSet<WorkloadId> = ids.collect();
        sorted.into_iter().collect()
    }
}

/// A gain in lines, and whether it was decided; `None` where there is none.
fn told(
    finding: &Finding,
    baseline: &[EnforcementPath],
    present: &[EnforcementPath],
) -> Option<(Vec<String>, bool)> {
    let Finding::Witness(witness) = finding else {
        let lines = tell::undecided(finding);
        return (!lines.is_empty()).then_some((lines, false));
    };
    // What would become of somebody else is no news.
    let mut lines = tell::witness(witness, baseline, present);
    lines.retain(|line| !line.starts_with("before"));
    Some((lines, true))
}

fn not_there(name: &ObjectName) -> Point {
    let kind = PointKind::Stop {
        reason: "it was not there".to_owned(),
    };
    Point::new(kind, &name.to_string())
}
