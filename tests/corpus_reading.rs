//! Reads every folder of the corpus beside the repository, when it is there.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castoff::snapshot::Snapshot;
use castoff::source::read_files;

fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !path.is_dir() {
        eprintln!("SKIPPED: no corpus at {}", path.display());
        return None;
    }
    Some(path)
}

fn count(snapshot: &Snapshot) -> usize {
    snapshot.clone().into_objects().len()
}

#[test]
fn every_folder_of_the_corpus_is_read() {
    let Some(corpus) = corpus() else { return };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let mut counts = BTreeMap::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        match read_files(std::slice::from_ref(&folder)) {
            Ok(snapshot) => {
                for problem in &snapshot.problems {
                    eprintln!("{name}: {problem}");
                }
                counts.insert(name, count(&snapshot));
            }
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    eprintln!("{counts:#?}");
}
