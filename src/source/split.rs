//! Cuts text where YAML cannot mean one value across the cut, so that pieces can be parsed side by
//! side and a broken one does not take the others with it.
//!
//! In: text. Out: documents (between `---` lines) and, of a `kind: List` dump, its items. A cut
//! between items is certain only if every piece parses: a quoted or flow value that runs across a
//! cut leaves a piece unfinished, and the caller then parses the whole document.

use memchr::{memchr_iter, memmem};

/// A part of a text, with the number of lines before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// Lines of the file before this piece.
    pub(crate) lines_before: u32,
}

impl<'a> Piece<'a> {
    fn part(&self, range: std::ops::Range<usize>, lines_before: u32) -> Self {
        Self {
            text: &self.text[range],
            lines_before,
        }
    }
}

/// Number of line feeds.
pub(crate) fn count_lines(text: &str) -> u32 {
    u32::try_from(memchr_iter(b'\n', text.as_bytes()).count()).unwrap_or(u32::MAX)
}

/// The documents of a text. Documents of nothing but comments are left out.
pub(crate) fn documents(text: &str) -> Vec<Piece<'_>> {
    let mut starts = vec![0];
    let bytes = text.as_bytes();
    starts.extend(
        memmem::find_iter(bytes, b"\n---")
            .map(|at| at + 1)
            .filter(|&at| ends_marker(bytes.get(at + 3).copied())),
    );
    let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(starts.len());
    let mut lines_before = 0;
    let mut directives: Option<(usize, u32)> = None;
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(text.len());
        let part = &text[start..end];
        if only_directives(part) {
            directives = Some((start, lines_before));
        } else if has_content(part) {
            let (from, lines) = directives.take().unwrap_or((start, lines_before));
            pieces.push(Piece {
                text: &text[from..end],
                lines_before: lines,
            });
        } else {
            directives = None;
        }
        lines_before += count_lines(part);
    }
    pieces
}

fn ends_marker(byte: Option<u8>) -> bool {
    matches!(byte, None | Some(b' ' | b'\t' | b'\r' | b'\n'))
}

fn significant_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| {
        let line = line.trim_end();
        !(line.is_empty() || line.starts_with('#') || line == "---" || line == "...")
    })
}

fn has_content(text: &str) -> bool {
    significant_lines(text).next().is_some()
}

fn only_directives(text: &str) -> bool {
    text.contains('%')
        && has_content(text)
        && significant_lines(text).all(|line| line.starts_with('%'))
}

/// A `List` dump, cut at its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListPieces<'a> {
    /// The lines before and after the items: `apiVersion`, `kind`, `metadata`.
    pub(crate) frame: [Piece<'a>; 2],
    /// The items, several to a piece; each piece is a sequence.
    pub(crate) items: Vec<Piece<'a>>,
}

/// Items of about this many bytes are parsed together.
const PIECE_BYTES: usize = 128 << 10;

/// Cuts a document that looks like a dump: `items:` in column 1, then lines that start with `- `
/// at one indentation. `None` when it does not look like one.
pub(crate) fn list_items<'a>(document: &Piece<'a>) -> Option<ListPieces<'a>> {
    let text = document.text;
    let items_at = if text.starts_with("items:") {
        0
    } else {
        memmem::find(text.as_bytes(), b"\nitems:")? + 1
    };
    let after = items_at + text[items_at..].find('\n')? + 1;
    let rest_of_line = text[items_at + "items:".len()..after].trim();
    if !(rest_of_line.is_empty() || rest_of_line.starts_with('#')) {
        return None;
    }
    let first_line = text[after..].lines().next()?;
    let indentation = first_line.len() - first_line.trim_start_matches(' ').len();
    if !starts_item(&text[after..], indentation) {
        return None;
    }
    let mut cuts = vec![after];
    let mut end = text.len();
    for newline in memchr_iter(b'\n', &text.as_bytes()[after..]) {
        let at = after + newline + 1;
        if starts_item(&text[at..], indentation) {
            cuts.push(at);
        } else if ends_list(&text.as_bytes()[at..]) {
            end = at;
            break;
        }
    }
    cuts.push(end);
    let header_lines = document.lines_before + count_lines(&text[..after]);
    let mut items = Vec::new();
    let mut start = after;
    let mut lines = header_lines;
    for &cut in &cuts[1..] {
        if cut - start >= PIECE_BYTES || cut == end {
            items.push(document.part(start..cut, lines));
            lines += count_lines(&text[start..cut]);
            start = cut;
        }
    }
    Some(ListPieces {
        frame: [
            document.part(0..items_at, document.lines_before),
            document.part(end..text.len(), lines),
        ],
        items,
    })
}

/// The items of a piece that [`list_items`] made, one by one.
pub(crate) fn single_items<'a>(piece: &Piece<'a>) -> Vec<Piece<'a>> {
    let text = piece.text;
    let indentation = text.len() - text.trim_start_matches(' ').len();
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut lines = piece.lines_before;
    let cuts = memchr_iter(b'\n', text.as_bytes())
        .map(|at| at + 1)
        .filter(|&at| at < text.len() && starts_item(&text[at..], indentation))
        .chain([text.len()]);
    for cut in cuts {
        pieces.push(piece.part(start..cut, lines));
        lines += count_lines(&text[start..cut]);
        start = cut;
    }
    pieces
}

fn starts_item(text: &str, indentation: usize) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > indentation
        && bytes[..indentation].iter().all(|byte| *byte == b' ')
        && bytes[indentation] == b'-'
        && ends_marker(bytes.get(indentation + 1).copied())
}

/// Whether a line leaves the list: a key or a document end in column 1.
fn ends_list(line: &[u8]) -> bool {
    !matches!(
        line.first(),
        None | Some(b' ' | b'\t' | b'\r' | b'\n' | b'#' | b'-')
    )
}
