//! How long a comparison takes, and how much memory.
//!
//! ```text
//! cargo bench -p castoff-authz
//! ```
//!
//! Prints for each case the mean of some runs (processor time where the system tells it; its clock may
//! tick only every 4 ms, so that single runs say little), the fastest by the wall clock, the peak memory
//! of the process so far (`VmHWM`), and the answer. The goals are 5 ms for *same* and 10 ms with a witness, for 200 policies of 10 rules.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, PortSeen, Protocol, Proxy,
};
use castoff_authz::policy::{Action, Operation, Policy, Rule, Source};
use castoff_authz::settings::{Release, Settings};
use castoff_authz::verdict::{Caller, Comparison, Finding, Limits, Verdict, compare};

/// Time that this thread has had a processor, which does not count what others on the machine take;
/// `None` where the system does not say.
fn on_cpu() -> Option<Duration> {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = schedule.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// The most memory that the process ever had, in bytes; 0 where the system does not say.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes
        .and_then(|number| number.parse::<usize>().ok())
        .map_or(0, |number| number * 1024)
}

/// A small generator of numbers, so that every run measures the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// Rules like those of a big mesh: principals of 20 accounts, 20 paths, 5 methods, 5 blocks; one policy
/// in ten is a DENY.
fn policies(count: usize, rules: usize) -> Vec<Policy> {
    let mut random = Random(1);
    let some = |random: &mut Random, make: &dyn Fn(usize) -> String, of: usize| -> Vec<String> {
        let count = 1 + random.below(3);
        (0..count).map(|_| make(random.below(of))).collect()
    };
    (0..count)
        .map(|number| {
            let rules = (0..rules)
                .map(|_| Rule {
                    from: vec![Source {
                        principals: some(
                            &mut random,
                            &|it| format!("cluster.local/ns/team-{}/sa/service-{it}", it % 7),
                            20,
                        ),
                        ip_blocks: if random.below(5) == 0 {
                            some(&mut random, &|it| format!("10.{it}.0.0/16"), 5)
                        } else {
                            vec![]
                        },
                        ..Source::default()
                    }],
                    to: vec![Operation {
                        paths: some(
                            &mut random,
                            &|it| {
                                if it % 4 == 0 {
                                    format!("/api/v{it}/*")
                                } else {
                                    format!("/api/v1/item-{it}")
                                }
                            },
                            20,
                        ),
                        methods: if random.below(2) == 0 {
                            some(
                                &mut random,
                                &|it| ["GET", "POST", "PUT", "DELETE", "HEAD"][it].to_owned(),
                                5,
                            )
                        } else {
                            vec![]
                        },
                        ports: vec!["8080".to_owned()],
                        ..Operation::default()
                    }],
                    when: vec![],
                })
                .collect();
            let action = if number % 10 == 0 {
                Action::Deny
            } else {
                Action::Allow
            };
            Policy::new("shop", &format!("policy-{number:03}"), action, rules)
        })
        .collect()
}

fn path(policies: Vec<Policy>, port: u16) -> EnforcementPath {
    let kind = PointKind::Envoy {
        proxy: Proxy::Sidecar,
        protocol: Protocol::Http,
    };
    let mut point = Point::new(kind, "shop/orders");
    point.seen.destination_port = PortSeen::Fixed(port);
    point.policies = policies.into_iter().map(Arc::new).collect();
    EnforcementPath {
        address: Address {
            kind: AddressKind::Service,
            name: "shop/orders".to_owned(),
            port: 80,
        },
        in_use: true,
        settings: Arc::new(Settings::of(Release {
            minor: 31,
            patch: 0,
        })),
        points: vec![point],
    }
}

/// The same rules in another order, each policy split in two, ports translated to the Service port.
fn copied(policies: &[Policy]) -> Vec<Policy> {
    let mut copies = Vec::new();
    for policy in policies.iter().rev() {
        for (part, rules) in policy
            .rules
            .chunks(policy.rules.len().div_ceil(2))
            .enumerate()
        {
            let rules = rules.iter().rev().map(|rule| {
                let mut rule = rule.clone();
                rule.to[0].ports = vec!["80".to_owned()];
                rule
            });
            let name = format!("{}-{part}", policy.name.name);
            copies.push(Policy::new(
                "shop",
                &name,
                policy.action.clone(),
                rules.collect(),
            ));
        }
    }
    copies
}

fn simple(rules: Vec<Rule>) -> Vec<Policy> {
    vec![Policy::new("shop", "policy", Action::Allow, rules)]
}

fn with_paths(paths: Vec<String>) -> Rule {
    Rule {
        to: vec![Operation {
            paths,
            ..Operation::default()
        }],
        ..Rule::default()
    }
}

fn comparison(before: EnforcementPath, after: EnforcementPath) -> Comparison {
    Comparison {
        caller: Caller::anybody(),
        http: true,
        baseline: vec![before],
        present: vec![after],
    }
}

fn answer(verdict: &Verdict) -> &'static str {
    let undecided = |finding: &Finding| matches!(finding, Finding::Undecided(_) | Finding::Bug(_));
    match (&verdict.opens, &verdict.breaks) {
        (opens, breaks) if undecided(opens) || undecided(breaks) => "undecided",
        (Finding::Never, Finding::Never) => "same",
        (_, Finding::Never) => "opens",
        (Finding::Never, _) => "breaks",
        _ => "both",
    }
}

fn measure(name: &str, comparison: &Comparison) {
    // `cargo bench … -- TEXT` measures only the cases whose name holds the text.
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let mut times = Vec::new();
    let mut said = "";
    let started = Instant::now();
    let started_on_cpu = on_cpu();
    while times.len() < 5 || (started.elapsed() < Duration::from_secs(2) && times.len() < 201) {
        let begun = Instant::now();
        let verdict = compare(comparison, Limits::default());
        times.push(begun.elapsed());
        said = answer(&verdict);
    }
    let all = on_cpu()
        .zip(started_on_cpu)
        .map_or(started.elapsed(), |(now, then)| now - then);
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{name:<52} mean {:>9.3} ms  fastest {:>9.3} ms  peak {:>7.2} MB  {said}",
        milliseconds(all) / times.len() as f64,
        milliseconds(times[0]),
        peak_memory() as f64 / 1e6,
    );
}

fn main() {
    let all = policies(200, 10);
    measure(
        "200 x 10, permuted, split, ports translated",
        &comparison(path(all.clone(), 8080), path(copied(&all), 80)),
    );
    let mut less = copied(&all);
    let last = less
        .iter()
        .position(|policy| policy.action == Action::Deny)
        .unwrap();
    less[last].rules.pop();
    measure(
        "200 x 10, one DENY rule removed",
        &comparison(path(all.clone(), 8080), path(less, 80)),
    );
    let mut less = all.clone();
    for policy in &mut less {
        // All that lets the first account reach the first item go.
        policy.rules.retain(|rule| {
            policy.action == Action::Deny
                || !rule.to[0].paths.contains(&"/api/v1/item-1".to_owned())
        });
    }
    measure(
        "200 x 10, the ALLOW rules of one path removed",
        &comparison(path(all.clone(), 8080), path(less, 8080)),
    );
    let mut caller = comparison(path(all.clone(), 8080), path(copied(&all), 80));
    caller.caller = Caller::workload("cluster.local/ns/team-3/sa/service-3");
    measure("200 x 10, one caller", &caller);
    let few = policies(3, 3);
    measure(
        "3 x 3 (an ordinary server)",
        &comparison(path(few.clone(), 8080), path(copied(&few), 80)),
    );

    let chain: Vec<String> = (1..=500)
        .map(|length| format!("/{}*", "a/".repeat(length)))
        .collect();
    let mut other = chain.clone();
    other.remove(250);
    let each = |paths: &[String]| {
        paths
            .iter()
            .map(|path| with_paths(vec![path.clone()]))
            .collect::<Vec<Rule>>()
    };
    measure(
        "500 prefixes of one another, longest 1,000",
        &comparison(
            path(simple(each(&chain)), 80),
            path(simple(each(&other)), 80),
        ),
    );
    let not = |paths: &[String]| {
        let rules = paths
            .iter()
            .zip(paths.iter().skip(1))
            .step_by(2)
            .map(|(path, not)| Rule {
                to: vec![Operation {
                    paths: vec![path.clone()],
                    not_paths: vec![not.clone()],
                    ..Operation::default()
                }],
                ..Rule::default()
            });
        rules.collect::<Vec<Rule>>()
    };
    measure(
        "500 prefixes of one another, every other but not",
        &comparison(path(simple(not(&chain)), 80), path(simple(not(&other)), 80)),
    );

    let block = |number: usize| format!("10.{}.{}.0/24", number / 250, number % 250);
    let blocks = |from: usize| -> Vec<Rule> {
        let rules = (from..1000).map(|number| Rule {
            from: vec![Source {
                ip_blocks: vec![block(number)],
                ..Source::default()
            }],
            to: with_paths(vec![format!("/{}", number % 10)]).to,
            ..Rule::default()
        });
        rules.collect()
    };
    measure(
        "1,000 CIDRs by 10 paths, one removed",
        &comparison(path(simple(blocks(0)), 80), path(simple(blocks(1)), 80)),
    );

    let hosts = |from: usize, wild: bool| -> Vec<Rule> {
        let rules = (from..500).map(|number| Rule {
            to: vec![Operation {
                hosts: vec![if wild && number % 2 == 0 {
                    format!("*.tenant-{number}.example.com")
                } else {
                    format!("tenant-{number}.example.com")
                }],
                ..Operation::default()
            }],
            ..Rule::default()
        });
        rules.collect()
    };
    measure(
        "500 hosts, one removed",
        &comparison(
            path(simple(hosts(0, false)), 80),
            path(simple(hosts(1, false)), 80),
        ),
    );
    measure(
        "500 hosts, half of them suffixes, one removed",
        &comparison(
            path(simple(hosts(0, true)), 80),
            path(simple(hosts(1, true)), 80),
        ),
    );

    let mixed = |count: usize| -> Vec<Rule> {
        let prefixes = (0..count).map(|number| format!("/p{number}/*"));
        let suffixes = (0..count).map(|number| format!("*/s{number}"));
        each(&prefixes.chain(suffixes).collect::<Vec<String>>())
    };
    measure(
        "60 prefixes and 60 suffixes, one removed",
        &comparison(
            path(simple(mixed(60)), 80),
            path(simple(mixed(60)[1..].to_vec()), 80),
        ),
    );
    measure(
        "300 prefixes and 300 suffixes (over the limit)",
        &comparison(
            path(simple(mixed(300)), 80),
            path(simple(mixed(300)[1..].to_vec()), 80),
        ),
    );

    let accounts = |from: usize| -> Vec<Rule> {
        let rules = (from..2000).map(|number| Rule {
            from: vec![Source {
                principals: vec![format!(
                    "cluster.local/ns/team-{}/sa/service-{number}",
                    number % 50
                )],
                ..Source::default()
            }],
            to: with_paths(vec![format!("/item-{}", number % 100)]).to,
            ..Rule::default()
        });
        rules.collect()
    };
    measure(
        "2,000 accounts by 100 paths, one removed",
        &comparison(path(simple(accounts(0)), 80), path(simple(accounts(1)), 80)),
    );
}
