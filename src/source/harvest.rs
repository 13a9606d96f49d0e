//! Text of one source to typed objects.
//!
//! In: decoded text and where it came from. Out: an unsorted [`Snapshot`] with objects, problems
//! and counts. Pieces are parsed side by side; a tree lives only as long as its piece.

use rayon::prelude::*;

use super::object::{self, Head, HeadError, PATCH};
use super::split::{self, ListPieces, Piece};
use super::yaml::load::{self, LoadError, Loaded};
use super::yaml::tree::{Node, NodeValue};
use super::{Place, json};
use crate::snapshot::{Kind, Problem, ProblemLevel, Snapshot};

/// The largest document that is parsed in one piece. The API server takes objects of at most 3 MB;
/// lists are cut at their items and may be of any size.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// Documents are handed to a thread in batches of about this many bytes.
const BATCH_BYTES: usize = 128 << 10;

/// Reads all objects of a text. The parts are to be joined in their order, once the text is gone.
pub(crate) fn harvest(place: &Place, text: &str) -> Vec<Snapshot> {
    if let Some(problem) = says_nothing(place, text) {
        return vec![Harvester { place }.only(problem)];
    }
    let documents = split::documents(text);
    let mut batches: Vec<&[Piece<'_>]> = Vec::new();
    let mut first = 0;
    let mut bytes = 0;
    for (index, document) in documents.iter().enumerate() {
        bytes += document.text.len();
        if bytes >= BATCH_BYTES {
            batches.push(&documents[first..=index]);
            first = index + 1;
            bytes = 0;
        }
    }
    batches.push(&documents[first..]);
    let harvester = Harvester { place };
    let parts: Vec<Vec<Snapshot>> = batches
        .par_iter()
        .map(|batch| match batch {
            [document] => harvester.document(document),
            documents => vec![Snapshot::joined(
                documents
                    .iter()
                    .flat_map(|document| harvester.document(document))
                    .collect(),
            )],
        })
        .collect();
    parts.into_iter().flatten().collect()
}

/// A file that is named after a kind and holds nothing: a list of none is written, too, so that this one was not
/// read.
fn says_nothing(place: &Place, text: &str) -> Option<Problem> {
    let kind = place.kind_by_name()?;
    let is_nothing = |line: &str| matches!(line.trim_start_matches('\u{feff}').trim(), "" | "---");
    if !text.lines().all(is_nothing) {
        return None;
    }
    let resource = kind.resource();
    let message = format!(
        "this file is named after {resource} and is empty: `kubectl get {resource} -A -o yaml > FILE` leaves that where \
         it fails, and writes an empty list where there are none; write it again"
    );
    Some(Harvester { place }.problem(1, None, message))
}

/// Reads pieces of one source.
pub(crate) struct Harvester<'a> {
    /// Where the text came from.
    pub(crate) place: &'a Place,
}

impl Harvester<'_> {
    fn document(&self, document: &Piece<'_>) -> Vec<Snapshot> {
        let json_error = match json::read(self, document) {
            json::Outcome::Read(found) => return found,
            json::Outcome::NotJson => None,
            json::Outcome::Broken(problem) => Some(problem),
        };
        if let Some(pieces) = split::list_items(document)
            && let Some(found) = self.list(document, &pieces)
        {
            return found;
        }
        vec![match self.whole(document) {
            Ok(found) => found,
            Err(problem) => self.only(json_error.unwrap_or(problem)),
        }]
    }

    /// Reads a dump item by item; `None` when it has to be parsed as a whole after all.
    fn list(&self, document: &Piece<'_>, pieces: &ListPieces<'_>) -> Option<Vec<Snapshot>> {
        let head = list_head(pieces)?;
        let inherited = head.of_items();
        let mut parts: Vec<Snapshot> = pieces
            .items
            .par_iter()
            .map(|piece| {
                self.items(piece, inherited.as_ref())
                    .unwrap_or_else(|_| self.items_one_by_one(piece, inherited.as_ref()))
            })
            .collect();
        let broken = parts
            .iter()
            .flat_map(|part| &part.problems)
            .any(|problem| problem.level == ProblemLevel::Error);
        if broken && document.text.len() <= MAX_DOCUMENT_BYTES && load::load(document.text).is_ok()
        {
            return None;
        }
        let mut last = Snapshot::default();
        self.saw_list(&head, &mut last);
        parts.push(last);
        Some(parts)
    }

    fn items(&self, piece: &Piece<'_>, inherited: Option<&Head>) -> Result<Snapshot, LoadError> {
        let loaded = load::load(piece.text)?;
        let mut found = Snapshot::default();
        self.warn_of_duplicates(&loaded, piece, &mut found);
        for root in &loaded.roots {
            match &root.value {
                NodeValue::List(items) => {
                    for item in items {
                        self.object(item, inherited, piece, &mut found);
                    }
                }
                _ => self.object(root, inherited, piece, &mut found),
            }
        }
        Ok(found)
    }

    fn items_one_by_one(&self, piece: &Piece<'_>, inherited: Option<&Head>) -> Snapshot {
        let mut all = Snapshot::default();
        for item in split::single_items(piece) {
            all.append(
                self.items(&item, inherited)
                    .unwrap_or_else(|error| self.only(self.broken(&error, &item))),
            );
        }
        all
    }

    fn whole(&self, document: &Piece<'_>) -> Result<Snapshot, Problem> {
        if document.text.len() > MAX_DOCUMENT_BYTES {
            return Err(self.problem(
                document.lines_before + 1,
                None,
                format!(
                    "a single document of {} MiB is larger than any object that an API server \
                     stores; split it with `---` lines",
                    document.text.len() >> 20
                ),
            ));
        }
        let loaded = load::load(document.text).map_err(|error| self.broken(&error, document))?;
        let mut found = Snapshot::default();
        self.warn_of_duplicates(&loaded, document, &mut found);
        for root in &loaded.roots {
            self.object(root, None, document, &mut found);
        }
        Ok(found)
    }

    /// Reads one object of a tree, or all objects of a list.
    pub(crate) fn object(
        &self,
        node: &Node<'_>,
        inherited: Option<&Head>,
        piece: &Piece<'_>,
        found: &mut Snapshot,
    ) {
        let line = piece.lines_before + node.place.line.max(1);
        if !matches!(node.value, NodeValue::Map(_)) {
            found.problems.push(self.problem(
                line,
                None,
                "this is no Kubernetes object but a list or a single value; take it out of the \
                 input"
                    .to_owned(),
            ));
            return;
        }
        let head = match Head::of(node, inherited) {
            Ok(head) => head,
            Err(HeadError::NoObject) => {
                found.problems.push(Problem {
                    level: ProblemLevel::Warning,
                    ..self.problem(
                        line,
                        None,
                        "this is no Kubernetes object (it has neither `apiVersion` nor `kind`): \
                         skipped"
                            .to_owned(),
                    )
                });
                return;
            }
            Err(HeadError::Missing(field)) => {
                let message = format!("this object is left out: `{field}` is missing; add it");
                found.problems.push(self.problem(line, None, message));
                return;
            }
        };
        if head.is_list()
            && let Some(items) = node.get("items")
        {
            let of_items = head.of_items();
            if let NodeValue::List(items) = &items.value {
                for item in items {
                    self.object(item, of_items.as_ref(), piece, found);
                }
            }
            self.saw_list(&head, found);
            return;
        }
        let Some(kind) = head.known_kind().filter(|_| node.get(PATCH).is_none()) else {
            *found.unused_kinds.entry(head.counted_as()).or_default() += 1;
            return;
        };
        let made = object::metadata_of(node).and_then(|metadata| {
            object::check_name(&metadata)?;
            object::build(kind, head.clone(), metadata, node, self.place.origin(line))
        });
        match made {
            Ok(object) => {
                found.seen_kinds.insert(kind);
                if let Some(object) = object {
                    found.push(object);
                }
            }
            Err(error) => {
                let (line, column) = error.place.map_or((line, None), |place| {
                    (piece.lines_before + place.line, Some(place.column))
                });
                let message = format!("this {} is left out: {error}", head.kind);
                found.problems.push(self.problem(line, column, message));
            }
        }
    }

    /// An empty list is an answer: `kind: PodList`, or a `List` in a file that is named as kubectl
    /// names the resource, says that none exist.
    pub(crate) fn saw_list(&self, head: &Head, found: &mut Snapshot) {
        let kind = match head.of_items() {
            Some(item) => item.known_kind(),
            None => self.place.kind_by_name(),
        };
        found.seen_kinds.extend(kind);
    }

    fn warn_of_duplicates(&self, loaded: &Loaded<'_>, piece: &Piece<'_>, found: &mut Snapshot) {
        for (place, key) in &loaded.duplicates {
            found.problems.push(Problem {
                origin: Some(self.place.origin(piece.lines_before + place.line)),
                column: Some(place.column),
                level: ProblemLevel::Warning,
                message: format!(
                    "key `{key}` is given twice in one mapping: the later value is used; remove \
                     one of them"
                ),
            });
        }
    }

    fn broken(&self, error: &LoadError, piece: &Piece<'_>) -> Problem {
        self.problem(
            piece.lines_before + error.place.line,
            Some(error.place.column),
            format!(
                "this document is left out: {}; {}",
                error.message,
                remedy(error, piece)
            ),
        )
    }

    /// An error at a line of the source.
    pub(crate) fn problem(&self, line: u32, column: Option<u32>, message: String) -> Problem {
        Problem {
            origin: Some(self.place.origin(line)),
            column,
            level: ProblemLevel::Error,
            message,
        }
    }

    pub(crate) fn only(&self, problem: Problem) -> Snapshot {
        Snapshot {
            problems: vec![problem],
            ..Snapshot::default()
        }
    }
}

/// What to do about text that is not YAML.
fn remedy(error: &LoadError, piece: &Piece<'_>) -> &'static str {
    if error.message.starts_with("aliases repeat") {
        return "write the values out";
    }
    if piece.text.contains("{{") {
        return "it looks like a template: render it first (`helm template`)";
    }
    let line = piece
        .text
        .lines()
        .nth(error.place.line.saturating_sub(1) as usize)
        .unwrap_or_default();
    if line.trim_start_matches(' ').starts_with('\t') {
        return "indent with spaces, not with tabs";
    }
    "correct it (`kubectl apply --dry-run=client -f` shows the same error)"
}

/// The head of a dump, from the lines around its items; `None` when it is no list.
fn list_head(pieces: &ListPieces<'_>) -> Option<Head> {
    let mut entries = Vec::new();
    for piece in &pieces.frame {
        for root in load::load(piece.text).ok()?.roots {
            let NodeValue::Map(map) = root.value else {
                return None;
            };
            entries.extend(map);
        }
    }
    if entries.iter().any(|(key, _)| key == "items") {
        return None;
    }
    let head = Head::of(
        &Node {
            value: NodeValue::Map(entries),
            place: super::yaml::tree::Place::default(),
        },
        None,
    )
    .ok()?;
    head.is_list().then_some(head)
}

/// The kind of a file that is named like a resource: `pods.yaml`,
/// `gateways.networking.istio.io.json`.
pub(crate) fn kind_by_file_name(path: &str) -> Option<Kind> {
    let name = std::path::Path::new(path).file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let (stem, _) = name.rsplit_once('.')?;
    crate::snapshot::kinds::KINDS
        .iter()
        .find(|row| {
            stem.strip_prefix(row.plural).is_some_and(|rest| {
                rest == row.group || rest.strip_prefix('.') == Some(row.group) && !rest.is_empty()
            })
        })
        .map(|row| row.kind)
}
