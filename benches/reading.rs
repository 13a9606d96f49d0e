//! Time and peak memory of reading a fleet, against the parsers alone.
//!
//! `cargo bench --bench reading` makes a mesh of 10,000 Services, 50,000 Pods, 5,000 policies and
//! 1,000 VirtualServices and reads it from YAML and from JSON, on one thread and on all. Each
//! measurement runs in a process of its own, so that peaks do not mix. Without `--bench` (as
//! `cargo test` runs it) the mesh is small and the figures mean nothing.

#![allow(
    clippy::unwrap_used,
    reason = "a benchmark stops at what it did not expect"
)]
#![allow(missing_docs, reason = "not a library")]

#[path = "../tests/support/generator.rs"]
mod generator;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use generator::MeshShape;

#[cfg(feature = "fast-alloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHILD: &str = "CASTOFF_BENCH_MODE";

fn main() {
    if let Ok(mode) = std::env::var(CHILD) {
        let path = std::env::args().nth(1).unwrap();
        return child(&mode, Path::new(&path));
    }
    let full = std::env::args().any(|argument| argument == "--bench");
    let shape = if full {
        MeshShape::FLEET
    } else {
        MeshShape::SMALL
    };
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("mesh.yaml");
    let json = folder.path().join("mesh.json");
    write(&yaml, |out| {
        generator::write_yaml_list(generator::objects(shape), out)
    });
    write(&json, |out| {
        generator::write_json_list(generator::objects(shape), out)
    });
    println!("{shape:?}");
    let rounds = if full { 3 } else { 1 };
    for (path, parser) in [(&yaml, "events"), (&json, "serde-json")] {
        let size = std::fs::metadata(path).unwrap().len();
        let name = path.file_name().unwrap().to_string_lossy();
        println!("{name}: {:.1} MB", size as f64 / 1e6);
        for threads in ["1", "0"] {
            for mode in [parser, "castoff"] {
                if mode == parser && threads == "0" {
                    continue;
                }
                let best = (0..rounds)
                    .map(|_| run(mode, path, threads))
                    .min_by(|left, right| left.seconds.total_cmp(&right.seconds))
                    .unwrap();
                println!(
                    "  {mode:<10} {:<11} {:>7.3} s  {:>7.2} s of processor  {:>6.0} MB/s  peak {:>6.1} MB = {:.2} x input",
                    if threads == "1" {
                        "one thread"
                    } else {
                        "all threads"
                    },
                    best.seconds,
                    best.processor_seconds,
                    size as f64 / 1e6 / best.seconds,
                    best.peak_kb as f64 / 1e3,
                    best.peak_kb as f64 * 1e3 / size as f64,
                );
            }
        }
    }
}

fn write(
    path: &Path,
    fill: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    fill(&mut out).unwrap();
    std::io::Write::flush(&mut out).unwrap();
}

struct Measured {
    seconds: f64,
    processor_seconds: f64,
    peak_kb: u64,
}

/// One reading in a process of its own.
fn run(mode: &str, path: &PathBuf, threads: &str) -> Measured {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg(path)
        .env(CHILD, mode)
        .env("RAYON_NUM_THREADS", threads)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut fields = text.split_whitespace();
    let mut next = || fields.next().unwrap();
    Measured {
        seconds: next().parse().unwrap(),
        processor_seconds: next().parse().unwrap(),
        peak_kb: next().parse().unwrap(),
    }
}

fn child(mode: &str, path: &Path) {
    let start = Instant::now();
    let objects = match mode {
        "events" => {
            let text = std::fs::read_to_string(path).unwrap();
            granit_parser::Parser::new_from_str(&text)
                .inspect(|event| assert!(event.is_ok(), "the generator writes YAML"))
                .count()
        }
        "serde-json" => {
            let text = std::fs::read_to_string(path).unwrap();
            let list: Heads = serde_json::from_str(&text).unwrap();
            list.items.len()
        }
        _ => {
            let snapshot = castoff::source::read_files(&[path.to_owned()]).unwrap();
            assert!(
                snapshot.problems.is_empty(),
                "{:?}",
                snapshot.problems.first()
            );
            let count = snapshot.pods.len() + snapshot.services.len();
            let seconds = start.elapsed().as_secs_f64();
            println!("{seconds} {} {} {count}", processor_seconds(), peak());
            std::process::exit(0);
        }
    };
    println!(
        "{} {} {} {objects}",
        start.elapsed().as_secs_f64(),
        processor_seconds(),
        peak()
    );
}

#[derive(serde::Deserialize)]
struct Heads {
    items: Vec<serde::de::IgnoredAny>,
}

/// Time on processors so far, of all threads: steadier than the clock on a busy machine.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
    };
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// `VmHWM` in kB; 0 where the system does not say.
fn peak() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        })
        .unwrap_or(0)
}
