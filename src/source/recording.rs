//! What a cluster answered, as text: the form between a live read and everything else.
//!
//! In: lists of a live read. Out: a snapshot, or the bundle that `castoff collect` writes.
//! Invariant: both hold the same bytes of every object, so that a report made live and one made
//! from the bundle differ in nothing but origins.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Collector, Place};
use crate::snapshot::{Gap, Kind, Snapshot};

/// `apiVersion` of the first document of a bundle. A reader refuses what it does not know.
pub(crate) const BUNDLE_VERSION: &str = "castoff.dev/v1";

/// `kind` of the first document of a bundle.
pub(crate) const BUNDLE_KIND: &str = "Bundle";

/// A live read: one list a kind, and what could not be read.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// The kubeconfig context, or `in-cluster`.
    pub context: Arc<str>,
    /// Lists by kind. A kind that is served nowhere has an empty one: the cluster said so.
    pub lists: BTreeMap<Kind, RecordedList>,
    /// What could not be read, and why.
    pub gaps: Vec<Gap>,
}

/// All objects of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedList {
    /// `apiVersion` of the items.
    pub api_version: String,
    /// The objects as JSON, joined by `,\n`, without `managedFields`.
    pub items: String,
    /// How many they are.
    pub count: usize,
}

impl RecordedList {
    /// Adds the objects of another list.
    pub fn append(&mut self, other: &Self) {
        if self.count > 0 && other.count > 0 {
            self.items.push_str(",\n");
        }
        self.items.push_str(&other.items);
        self.count += other.count;
    }

    /// The list as a JSON document: `{"apiVersion":"v1","kind":"PodList","items":[…]}`.
    fn document(&self, kind: Kind) -> String {
        let name = kind.row().name;
        let version = &self.api_version;
        let items = &self.items;
        format!(
            "{{\"apiVersion\":\"{version}\",\"kind\":\"{name}List\",\"items\":[\n{items}\n]}}\n"
        )
    }
}

impl Recording {
    /// Types everything. The lists are given up one by one, so that text and types of one kind
    /// are in memory together, not those of all.
    pub fn into_snapshot(self) -> Snapshot {
        let place = Place::Cluster(self.context);
        let mut collector = Collector::new();
        for (kind, list) in self.lists {
            collector.saw(kind);
            collector.add_text(&place, &list.document(kind));
        }
        for gap in self.gaps {
            collector.add_gap(gap);
        }
        collector.finish()
    }

    /// Writes the bundle: gzip of JSON documents, the first of which says what it is and what is
    /// missing.
    ///
    /// # Errors
    /// Those of `writer`.
    pub fn write_bundle(&self, writer: impl Write) -> std::io::Result<()> {
        let mut gzip = GzEncoder::new(writer, Compression::fast());
        let gaps: Vec<_> = self
            .gaps
            .iter()
            .map(|gap| {
                let row = gap.kind.row();
                serde_json::json!({
                    "group": row.group,
                    "kind": row.name,
                    "namespace": gap.namespace,
                    "reason": gap.reason,
                })
            })
            .collect();
        let header = serde_json::json!({
            "apiVersion": BUNDLE_VERSION,
            "kind": BUNDLE_KIND,
            "metadata": {"name": &*self.context},
            "collectedBy": concat!("castoff ", env!("CARGO_PKG_VERSION")),
            "gaps": gaps,
        });
        writeln!(gzip, "{header}")?;
        for (kind, list) in &self.lists {
            gzip.write_all(list.document(*kind).as_bytes())?;
        }
        gzip.finish()?.flush()
    }
}
