//! Folders that castoff itself wrote, which it passes over when it reads a folder above them.
//!
//! In: a folder. Out: what castoff wrote there. Invariant: what others put into such a folder is not
//! castoff's: a folder of `migrate` names its own files in [`MARK`], and only those are passed over;
//! a plan's folder is castoff's as a whole, as it is replaced as a whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The file that makes a folder a plan.
pub const PLAN: &str = "plan.json";

/// The file in which a folder of `migrate` names what castoff wrote there, one name a line.
pub const MARK: &str = ".castoff-output";

/// What of a folder castoff wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// Everything.
    Whole,
    /// Files of these names; maybe none.
    Files(BTreeSet<String>),
}

/// Looks at a folder's marks.
pub(crate) fn of(folder: &Path) -> Own {
    if is_plan(folder) {
        return Own::Whole;
    }
    let names = beginning(&folder.join(MARK)).unwrap_or_default();
    let names = names.lines().filter(|line| !line.starts_with('#'));
    Own::Files(names.map(str::to_owned).collect())
}

/// Whether a folder is a plan of castoff.
pub fn is_plan(folder: &Path) -> bool {
    beginning(&folder.join(PLAN)).is_some_and(|text| {
        text.contains("\"apiVersion\": \"castoff/") && text.contains("\"kind\": \"Plan\"")
    })
}

/// The text of a mark with these names.
pub fn mark(names: &[&str]) -> String {
    format!(
        "# castoff wrote these files, and passes over them when it reads a folder above this one.\n{}\n",
        names.join("\n")
    )
}

/// The first lines of a file; marks are short, and plans say first what they are.
fn beginning(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.take(4096).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
