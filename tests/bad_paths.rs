//! Paths that lead to nothing that can be read: each is named, and the rest is still read.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "support/folder.rs"]
#[allow(dead_code)]
mod folder;

use std::path::PathBuf;

use castoff::source::read_files;
use folder::{Folder, GOOD, names};

#[test]
fn a_missing_path_is_named() {
    let folder = Folder::new().with("good.yaml", GOOD);
    let snapshot = read_files(&[folder.path("good.yaml"), folder.path("absent.yaml")]).unwrap();
    assert_eq!(
        folder.said(&snapshot),
        ["error: absent.yaml: cannot read this path: no such file or directory; check its name"]
    );
}

#[test]
fn a_file_that_is_too_large_is_not_opened() {
    let folder = Folder::new().with("good.yaml", GOOD);
    std::fs::File::create(folder.path("huge.yaml"))
        .unwrap()
        .set_len((2 << 30) + 1)
        .unwrap();
    let snapshot = folder.read().unwrap();
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: huge.yaml: this is larger than 2 GiB: skipped; give one file a kind, and only the kinds that are needed"
        ]
    );
}

#[cfg(unix)]
#[test]
fn links_that_lead_in_circles_are_followed_once() {
    let folder = Folder::new().with("a/good.yaml", GOOD);
    std::os::unix::fs::symlink("..", folder.path("a/up")).unwrap();
    std::os::unix::fs::symlink("self.yaml", folder.path("self.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path("broken.yaml")).unwrap();
    let snapshot = folder.read().unwrap();
    assert_eq!(names(&snapshot), ["good"]);
    assert_eq!(
        folder.said(&snapshot),
        [
            "warning: a/up: this folder was read before, a link leads back to it: skipped",
            "error: broken.yaml: cannot read this file: no such file or directory; mend the link or take it away",
            "error: self.yaml: cannot read this file: too many levels of symbolic links; mend the link or take it away"
        ]
    );
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_not_opened() {
    let folder = Folder::new().with("good.yaml", GOOD);
    let made = std::process::Command::new("mkfifo")
        .arg(folder.path("pipe.yaml"))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no mkfifo");
        return;
    }
    let snapshot = read_files(&[
        folder.path("pipe.yaml"),
        PathBuf::from("/dev/zero"),
        folder.path(""),
    ])
    .unwrap();
    assert_eq!(
        folder.said(&snapshot),
        [
            "error: /dev/zero: this is a pipe, a socket or a device, not a file: skipped; feed it to standard input and give `-`",
            "error: pipe.yaml: this is a pipe, a socket or a device, not a file: skipped; feed it to standard input and give `-`"
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_opened_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new()
        .with("good.yaml", GOOD)
        .with("closed/secret.yaml", GOOD)
        .with("unreadable.yaml", GOOD);
    let set = |name: &str, mode| {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set("closed", 0o000);
    set("unreadable.yaml", 0o000);
    let read = folder.read();
    let is_root = std::fs::read(folder.path("unreadable.yaml")).is_ok();
    set("closed", 0o755);
    if is_root {
        eprintln!("SKIPPED: root may open every folder");
        return;
    }
    assert_eq!(
        folder.said(&read.unwrap()),
        [
            "error: closed: cannot read this folder: permission denied; what is in it is missing from the result",
            "error: unreadable.yaml: cannot read this file: permission denied; what is in it is missing from the result"
        ]
    );
}
