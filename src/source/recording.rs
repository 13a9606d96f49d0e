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

use serde::{Deserialize, Serialize};

use super::{Collector, Place};
use crate::snapshot::kinds::KINDS;
use crate::snapshot::{Gap, Kind, Snapshot};

/// `apiVersion` of the first document of a bundle. A reader refuses what it does not know.
const BUNDLE_VERSION: &str = "castoff/v1";

/// `kind` of the first document of a bundle.
const BUNDLE_KIND: &str = "Bundle";

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

/// The first document of a bundle.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: String,
    kind: String,
    metadata: HeaderMetadata,
    collected_by: String,
    gaps: Vec<HeaderGap>,
}

#[derive(Serialize, Deserialize)]
struct HeaderMetadata {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct HeaderGap {
    resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except: Vec<String>,
    reason: String,
}

/// Whether a document is the first one of a bundle, of whatever version.
pub(crate) fn is_bundle_header(api_version: &str, kind: &str) -> bool {
    kind == BUNDLE_KIND && api_version.starts_with("castoff/")
}

/// What the bundle says is missing in it.
///
/// # Errors
/// A sentence, when another castoff is needed to read it.
pub(crate) fn gaps_of_bundle(api_version: &str, text: &str) -> Result<Vec<Gap>, String> {
    if api_version != BUNDLE_VERSION {
        return Err(format!(
            "this bundle is of version `{api_version}`, and this castoff reads `{BUNDLE_VERSION}`: \
             what is missing in it is not known; use the castoff that collected it, or a newer one"
        ));
    }
    let header: Header = serde_json::from_str(text).map_err(|error| {
        format!("the header of this bundle is broken: {error}; collect it again")
    })?;
    header
        .gaps
        .into_iter()
        .map(|gap| {
            let row = KINDS.iter().find(|row| row.kind.resource() == gap.resource);
            let row = row.ok_or_else(|| {
                format!(
                    "this bundle lacks `{}`, a kind that this castoff does not know; use the \
                     castoff that collected it, or a newer one",
                    gap.resource
                )
            })?;
            Ok(Gap {
                kind: row.kind,
                namespace: gap.namespace,
                except: gap.except,
                reason: gap.reason,
            })
        })
        .collect()
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
        let header = Header {
            api_version: BUNDLE_VERSION.to_owned(),
            kind: BUNDLE_KIND.to_owned(),
            metadata: HeaderMetadata {
                name: self.context.to_string(),
            },
            collected_by: concat!("castoff ", env!("CARGO_PKG_VERSION")).to_owned(),
            gaps: self
                .gaps
                .iter()
                .map(|gap| HeaderGap {
                    resource: gap.kind.resource(),
                    namespace: gap.namespace.clone(),
                    except: gap.except.clone(),
                    reason: gap.reason.clone(),
                })
                .collect(),
        };
        serde_json::to_writer(&mut gzip, &header)?;
        writeln!(gzip)?;
        for (kind, list) in &self.lists {
            gzip.write_all(list.document(*kind).as_bytes())?;
        }
        gzip.finish()?.flush()
    }
}
