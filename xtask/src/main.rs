//! Tasks of this repository that cargo has no command for: `cargo xtask e2e`.
//!
//! In: arguments. Out: an exit code. The first failure ends the task with one sentence on stderr.

mod control_plane;
mod krew;
mod pki;
mod processes;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use control_plane::ControlPlane;

/// A failure, as the sentence that is printed.
type Failure = String;

const USAGE: &str = "\
usage: cargo xtask e2e [TEST ARGUMENTS…]   run the end-to-end tests against a real control plane
       cargo xtask e2e-up                  start that control plane and keep it until Enter
       cargo xtask krew VERSION URL FOLDER print the krew manifest of a release's archives

With CASTOFF_E2E_KUBECONFIG set, `e2e` uses the cluster it names instead of starting one.
The control plane is built once by the machine's Go into target/e2e/bin.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((task, rest)) if task == "e2e" => run_tests(rest),
        Some((task, [])) if task == "e2e-up" => keep_up(),
        Some((task, [version, address, folder])) if task == "krew" => {
            krew::manifest(version, address, Path::new(folder)).map(|manifest| {
                print!("{manifest}");
                ExitCode::SUCCESS
            })
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `cargo test --test e2e` with the cluster's coordinates in its environment.
fn run_tests(arguments: &[String]) -> Result<ExitCode, Failure> {
    let root = repository_root();
    // Compiled before the control plane is up, which would only compete for the machine.
    let compiled = run_to_end(cargo(&root).arg("--no-run"))?;
    if compiled != ExitCode::SUCCESS {
        return Ok(compiled);
    }
    let mut test = cargo(&root);
    test.arg("--")
        // The cases share one cluster, and some of them look at all of it.
        .arg("--test-threads=1")
        .args(arguments);

    let bin = tools::build(&root)?;
    test.env("CASTOFF_E2E_KUBECTL", bin.join("kubectl"));
    let given = std::env::var_os("CASTOFF_E2E_KUBECONFIG").filter(|value| !value.is_empty());
    if let Some(kubeconfig) = given {
        eprintln!("xtask: using the cluster of {}", kubeconfig.display());
        return run_to_end(&mut test);
    }

    let logs = root.join("target/e2e/logs");
    let mut control_plane = start(&bin, &logs)?;
    test.env("CASTOFF_E2E_KUBECONFIG", control_plane.kubeconfig())
        .env("CASTOFF_E2E_PKI", control_plane.pki())
        .env("CASTOFF_E2E_SERVER", control_plane.server())
        .env("CASTOFF_E2E_ETCD", control_plane.etcd());
    let outcome = run_to_end(&mut test);
    // A component that died explains failing tests better than they do.
    control_plane.check_alive()?;
    outcome
}

/// Starts the control plane for work by hand.
fn keep_up() -> Result<ExitCode, Failure> {
    let root = repository_root();
    let bin = tools::build(&root)?;
    let control_plane = start(&bin, &root.join("target/e2e/logs"))?;
    println!(
        "export CASTOFF_E2E_KUBECONFIG={0} KUBECONFIG={0} CASTOFF_E2E_KUBECTL={1} \
         CASTOFF_E2E_PKI={2} CASTOFF_E2E_SERVER={3} CASTOFF_E2E_ETCD={4}",
        control_plane.kubeconfig().display(),
        bin.join("kubectl").display(),
        control_plane.pki().display(),
        control_plane.server(),
        control_plane.etcd(),
    );
    eprintln!("xtask: the control plane is up; press Enter to end it");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

fn start(bin: &Path, logs: &Path) -> Result<ControlPlane, Failure> {
    let begun = Instant::now();
    let control_plane = ControlPlane::start(bin, logs)?;
    eprintln!(
        "xtask: control plane ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(control_plane)
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        // The whole workspace, as the other tests of it: nothing is compiled twice.
        .args(["test", "--workspace", "--test", "e2e"]);
    // What cargo says of this task: build scripts of others (ring's) look at it, and would run again.
    let of_task = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in of_task {
        command.env_remove(name);
    }
    command
}

fn run_to_end(command: &mut Command) -> Result<ExitCode, Failure> {
    let status = command
        .status()
        .map_err(|error| format!("cannot run `{}`: {error}", command.get_program().display()))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The folder of the workspace, known when this task was compiled.
fn repository_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
