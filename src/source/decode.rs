//! Bytes of a file to text: gzip, byte order marks, UTF-16, and bytes that are no text.
//!
//! Invariant: what comes out is bounded by [`MAX_BYTES`], however small the file was.

use std::io::Read;

use super::Place;
use crate::snapshot::{Problem, ProblemLevel};

/// The largest file, also after unpacking.
pub(crate) const MAX_BYTES: u64 = 2 << 30;

/// Unpacked data may be this many times as large as packed data; manifests reach 30.
const MAX_RATIO: u64 = 200;

/// Unpacked data below this size is taken whatever the ratio.
const RATIO_MATTERS_FROM: u64 = 64 << 20;

/// Text, and what was odd about it.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) text: String,
    pub(crate) problems: Vec<Problem>,
}

/// Unpacks and decodes.
pub(crate) fn decode(place: &Place, bytes: Vec<u8>) -> Result<Decoded, Problem> {
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpack(&bytes).map_err(|message| problem(place, 1, None, message))?
    } else {
        bytes
    };
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => return utf8(place, bytes),
    };
    match text {
        Some(text) => Ok(Decoded {
            text,
            problems: Vec::new(),
        }),
        None => Err(problem(
            place,
            1,
            None,
            "this file begins like UTF-16 and is not; save it as UTF-8".to_owned(),
        )),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let allowed = (packed.len() as u64)
        .saturating_mul(MAX_RATIO)
        .clamp(RATIO_MATTERS_FROM, MAX_BYTES);
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .take(allowed + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| format!("cannot unpack this gzip file: {error}; pack it again"))?;
    if unpacked.len() as u64 > allowed {
        return Err(format!(
            "this gzip file unpacks to more than {} MiB, {MAX_RATIO} times its size or more; \
             unpack it and give the parts that are needed",
            allowed >> 20
        ));
    }
    Ok(unpacked)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair)))
        .collect::<Result<String, _>>()
        .ok()
}

fn utf8(place: &Place, mut bytes: Vec<u8>) -> Result<Decoded, Problem> {
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        bytes.drain(..3);
    }
    if memchr::memchr(0, &bytes).is_some() {
        return Err(problem(
            place,
            1,
            None,
            "this file is not text (it holds NUL bytes); give YAML or JSON in UTF-8, or in UTF-16 \
             with a byte order mark"
                .to_owned(),
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Decoded {
            text,
            problems: Vec::new(),
        }),
        Err(error) => Ok(without_broken_documents(place, &error.into_bytes())),
    }
}

/// Blanks the documents that hold bytes which are not UTF-8, keeping their lines.
fn without_broken_documents(place: &Place, bytes: &[u8]) -> Decoded {
    let mut text = String::with_capacity(bytes.len());
    let mut problems = Vec::new();
    let mut starts = vec![0];
    starts.extend(memchr::memmem::find_iter(bytes, b"\n---").map(|at| at + 1));
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(bytes.len());
        match std::str::from_utf8(&bytes[start..end]) {
            Ok(part) => text.push_str(part),
            Err(error) => {
                let good = &bytes[..start + error.valid_up_to()];
                let line_start = memchr::memrchr(b'\n', good).map_or(0, |at| at + 1);
                let line = memchr::memchr_iter(b'\n', good).count() + 1;
                problems.push(problem(
                    place,
                    u32::try_from(line).unwrap_or(u32::MAX),
                    u32::try_from(good.len() - line_start + 1).ok(),
                    "this document is left out: it holds a byte that is not UTF-8; save the file \
                     as UTF-8"
                        .to_owned(),
                ));
                let lines = memchr::memchr_iter(b'\n', &bytes[start..end]).count();
                text.extend(std::iter::repeat_n('\n', lines));
            }
        }
    }
    Decoded { text, problems }
}

fn problem(place: &Place, line: u32, column: Option<u32>, message: String) -> Problem {
    Problem {
        origin: Some(place.origin(line)),
        column,
        level: ProblemLevel::Error,
        message,
    }
}
