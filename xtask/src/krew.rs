//! The manifest by which krew installs castoff as `kubectl castoff`.
//!
//! In: a version, the address that archives are downloaded from, and a folder with them, named
//! `castoff-OS-ARCHITECTURE.tar.gz`. Out: the manifest. Invariant: a checksum is that of the file
//! that was there; a platform without a file is not offered.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::Failure;

const PLATFORMS: [(&str, &str); 5] = [
    ("linux", "amd64"),
    ("linux", "arm64"),
    ("darwin", "amd64"),
    ("darwin", "arm64"),
    ("windows", "amd64"),
];

/// The manifest.
pub(crate) fn manifest(version: &str, address: &str, folder: &Path) -> Result<String, Failure> {
    let mut out = format!(
        "apiVersion: krew.googlecontainertools.github.com/v1alpha2\n\
         kind: Plugin\n\
         metadata:\n  name: castoff\n\
         spec:\n  version: v{version}\n  \
         shortDescription: Move an Istio mesh from sidecars to ambient mode\n  \
         description: |\n    \
         Says what to do next to move an Istio mesh from sidecars to ambient mode, writes the\n    \
         manifests to apply, and proves that nobody gains or loses access. It only reads.\n  \
         platforms:\n"
    );
    let mut platforms = 0;
    for (system, architecture) in PLATFORMS {
        let file = format!("castoff-{system}-{architecture}.tar.gz");
        let path = folder.join(&file);
        if !path.is_file() {
            continue;
        }
        let binary = match system {
            "windows" => "castoff.exe",
            _ => "castoff",
        };
        let checksum = sha256(&path)?;
        let _ = write!(
            out,
            "  - selector:\n      matchLabels:\n        os: {system}\n        arch: {architecture}\n    \
             uri: {address}/{file}\n    sha256: {checksum}\n    bin: {binary}\n"
        );
        platforms += 1;
    }
    match platforms {
        0 => Err(format!(
            "`{}` holds no `castoff-OS-ARCHITECTURE.tar.gz`",
            folder.display()
        )),
        _ => Ok(out),
    }
}

fn sha256(path: &Path) -> Result<String, Failure> {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .map_err(|error| format!("cannot run `sha256sum`: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().next() {
        Some(checksum) if output.status.success() => Ok(checksum.to_owned()),
        _ => Err(format!("`sha256sum {}` failed", path.display())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_archive_that_is_there_is_offered_with_its_checksum() {
        let folder = tempfile::tempdir().unwrap();
        assert!(manifest("0.1.0", "https://example.org/v0.1.0", folder.path()).is_err());
        std::fs::write(folder.path().join("castoff-linux-amd64.tar.gz"), "abc").unwrap();
        let text = manifest("0.1.0", "https://example.org/v0.1.0", folder.path()).unwrap();
        assert!(text.ends_with(
            "  platforms:\n  - selector:\n      matchLabels:\n        os: linux\n        \
             arch: amd64\n    uri: https://example.org/v0.1.0/castoff-linux-amd64.tar.gz\n    \
             sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n    \
             bin: castoff\n"
        ));
    }
}
