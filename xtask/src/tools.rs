//! Builds etcd, the Kubernetes control plane, kubectl and kwok with the machine's own Go.
//!
//! In: `e2e/go.mod` and `e2e/kwok/go.mod`, which name the programs as tools and pin every
//! version. Out: a folder of binaries under `target/e2e/bin`, named by the checksums of the two
//! modules, so that it is rebuilt exactly when a version changes. Invariant: the folder appears
//! whole or not at all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::Failure;

/// The folder with the binaries; builds what is missing.
pub(crate) fn build(root: &Path) -> Result<PathBuf, Failure> {
    let kubernetes = root.join("e2e");
    let kwok = root.join("e2e/kwok");
    let cache = root.join("target/e2e/bin");
    let folder = cache.join(checksum(&[&kubernetes, &kwok])?);
    if folder.join("kwok").is_file() {
        return Ok(folder);
    }

    let begun = Instant::now();
    eprintln!("xtask: building the control plane (once; some minutes with an empty Go cache)");
    std::fs::create_dir_all(&cache)
        .map_err(|error| format!("cannot create `{}`: {error}", cache.display()))?;
    let unfinished = tempfile::Builder::new()
        .prefix("unfinished-")
        .tempdir_in(&cache)
        .map_err(|error| format!("cannot create a folder in `{}`: {error}", cache.display()))?;

    go_build(&kubernetes, unfinished.path(), &version_flags(&kubernetes)?)?;
    let etcd = unfinished.path().join("etcd");
    // Go names a program after the last element of its package path that is not a major version.
    std::fs::rename(unfinished.path().join("server"), &etcd)
        .map_err(|error| format!("the build left no etcd: {error}"))?;
    go_build(&kwok, unfinished.path(), "")?;

    let finished = unfinished.keep();
    if let Err(error) = std::fs::rename(&finished, &folder)
        && !folder.join("kwok").is_file()
    {
        return Err(format!("cannot create `{}`: {error}", folder.display()));
    }
    eprintln!("xtask: built in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(folder)
}

/// Builds every tool of a module into `folder`.
fn go_build(module: &Path, folder: &Path, linker_flags: &str) -> Result<(), Failure> {
    let mut command = go(module);
    command
        .arg("build")
        .arg(format!("-ldflags=-s -w {linker_flags}"))
        .arg("-o")
        .arg(folder)
        .arg("tool");
    let status = command.status().map_err(no_go)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "`go build` failed in `{}` ({status})",
            module.display()
        ))
    }
}

/// The server's version goes in by linker flags: without them clients cannot parse it.
fn version_flags(module: &Path) -> Result<String, Failure> {
    let output = go(module)
        .args(["list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes"])
        .output()
        .map_err(no_go)?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut parts = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
        return Err(format!(
            "cannot tell the version of k8s.io/kubernetes: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    };
    let variable = "-X k8s.io/component-base/version";
    Ok(format!(
        "{variable}.gitVersion={version} {variable}.gitMajor={major} {variable}.gitMinor={minor}"
    ))
}

fn go(module: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(module)
        // A go.work above this repository must not change what is built.
        .env("GOWORK", "off");
    command
}

fn no_go(error: std::io::Error) -> Failure {
    format!(
        "cannot run `go`: {error}; install Go 1.24 or newer, \
         or set CASTOFF_E2E_KUBECONFIG and CASTOFF_E2E_KUBECTL to use a cluster of yours"
    )
}

/// Changes whenever a version does; no secret, so that the standard hasher is enough.
fn checksum(modules: &[&Path]) -> Result<String, Failure> {
    let mut hasher = DefaultHasher::new();
    for module in modules {
        for file in ["go.mod", "go.sum"] {
            let path = module.join(file);
            std::fs::read(&path)
                .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?
                .hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}
