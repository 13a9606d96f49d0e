//! Time and memory of proving a fleet: one state, the mixed state of a whole move, a whole plan.
//!
//! `cargo bench --bench proof` makes a mesh of 10,000 Services, 50,000 Pods and 5,000 policies with
//! their Deployments, in ambient-ready clusters, and prints what each part takes beside the time to
//! read the input. `CASTOFF_BENCH_SHARE=10` makes a tenth of it. Without `--bench` (as `cargo test`
//! runs it) the mesh is small and the figures mean nothing.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark stops at what it did not expect"
)]
#![allow(missing_docs, reason = "not a library")]

#[path = "../tests/support/generator.rs"]
mod generator;

use std::sync::Arc;
use std::time::Instant;

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::plan::both::with_ambient_generations;
use castoff::plan::{PlanOptions, plan, proof};
use castoff::prove::prover::Prover;
use castoff::snapshot::Snapshot;
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;
use generator::MeshShape;

/// The allocator of the binary.
#[cfg(feature = "fast-alloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let mut shape = if full {
        MeshShape::FLEET
    } else {
        MeshShape::SMALL
    };
    if let Some(share) = std::env::var("CASTOFF_BENCH_SHARE")
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|_| full)
    {
        shape.namespaces /= share;
        shape.services /= share;
        shape.pods /= share;
        shape.policies /= share;
        shape.virtual_services /= share;
    }
    println!("{shape:?}");
    let mut text = Vec::new();
    let objects = generator::objects(shape)
        .chain(generator::owners(shape))
        .filter(|object| object["metadata"]["namespace"] != "istio-system")
        .map(on_a_node_of_the_demo);
    generator::write_yaml_documents(objects, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    println!("input: {:.1} MB", text.len() as f64 / 1e6);
    let snapshot = timed("read", || read(&text));
    let overrides = MeshOverrides::default();
    let baseline = timed("mesh", || Mesh::build(&snapshot, &overrides));
    let limits = Limits::default();
    timed("same state", || {
        let prover = Prover::new(&baseline, limits);
        let state = proof::state(&prover, Arc::new(baseline.clone()), "now");
        assert!(state.differing.is_empty());
    });
    timed("mixed state, everything moving", || {
        let both = with_ambient_generations(&baseline, |_| true);
        let prover = Prover::new(&baseline, limits);
        let state = proof::state(&prover, Arc::new(both), "mixed");
        println!("  {} servers differ", state.differing.len());
    });
    timed("whole plan", || {
        let plan = plan(
            &snapshot,
            snapshot.clone(),
            &overrides,
            &PlanOptions::default(),
        );
        let states: usize = plan.waves.iter().map(|wave| wave.states.len()).sum();
        println!(
            "  {} waves, {states} states, {} workloads held, {} undecided, ending {:?}",
            plan.waves.len(),
            plan.held.len(),
            plan.undecided(),
            std::mem::discriminant(&plan.ending)
        );
    });
    println!("peak memory: {:.0} MB", peak_megabytes());
}

/// The generated fleet in a cluster that is ready for ambient mode: the demo's control plane.
fn read(text: &str) -> Snapshot {
    let mut collector = Collector::new();
    // Its cluster and control plane, not its applications.
    for (name, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(name), text);
    }
    collector.add_text(&Place::Simulated, text);
    collector.finish()
}

/// The nodes on which ztunnel runs.
fn on_a_node_of_the_demo(mut object: serde_json::Value) -> serde_json::Value {
    if object["kind"] == "Pod" {
        object["spec"]["nodeName"] = "node-1".into();
    }
    object
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (begun, used) = (Instant::now(), processor_seconds());
    let result = work();
    println!(
        "{what}: {:.3} s, {:.2} s of processor",
        begun.elapsed().as_secs_f64(),
        processor_seconds() - used
    );
    result
}

/// Processor time of this process in user mode and in the kernel (Linux, in its hundredths; elsewhere
/// 0): where others share the cores, it says more than the clock.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the command, which is in parentheses, may hold anything.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Peak resident memory of this process (Linux; elsewhere 0).
fn peak_megabytes() -> f64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| {
            line.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<f64>()
                .ok()
        })
        .unwrap_or_default()
        / 1e3
}
