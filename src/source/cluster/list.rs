//! A whole list, page by page.
//!
//! Invariant: a list is whole or a failure. A continue token that expires (410) starts the list
//! anew; when that happens twice, the list is taken in one answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::item;
use super::request::{Connection, Failure};
use crate::snapshot::Kind;
use crate::source::recording::RecordedList;

/// Objects a page: what kubectl asks for, and what API servers are tuned to.
const PAGE: usize = 500;

/// The label of the Secrets that hold the access to remote clusters. No other is asked for.
const REMOTE_CLUSTERS: &str = "labelSelector=istio%2FmultiCluster%3Dtrue";

/// Asks for metadata only; there is no second choice, so that no Secret data can come.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// What to list.
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) api_version: String,
    /// Path of the resource, or of one object.
    pub(super) path: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize, Default)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    token: Option<String>,
}

/// Reads the list; `on_page` is told how many objects each page brought.
pub(super) async fn list(
    connection: &Connection,
    request: &Request,
    on_page: &(dyn Fn(usize) + Sync),
) -> Result<RecordedList, Failure> {
    let mut expired = 0;
    loop {
        let limit = (expired < 2).then_some(PAGE);
        match pages(connection, request, limit, on_page).await {
            Err(Failure::Status { code: 410, .. }) if expired < 2 => expired += 1,
            outcome => return outcome,
        }
    }
}

async fn pages(
    connection: &Connection,
    request: &Request,
    limit: Option<usize>,
    on_page: &(dyn Fn(usize) + Sync),
) -> Result<RecordedList, Failure> {
    let accept = match request.kind {
        Kind::Secret => METADATA_ONLY,
        _ => "application/json",
    };
    let mut list = RecordedList {
        api_version: request.api_version.clone(),
        ..RecordedList::default()
    };
    let mut token: Option<String> = None;
    loop {
        let path = page_path(request, limit, token.as_deref());
        let body = connection.get(&path, accept).await?;
        let text = std::str::from_utf8(&body).map_err(|error| garbled(request, &error))?;
        let page: Page<'_> =
            serde_json::from_str(text).map_err(|error| garbled(request, &error))?;
        let count = match page.items {
            Some(items) => {
                for item in &items {
                    item::append(&mut list, request.kind, item.get())
                        .map_err(|error| garbled(request, &error))?;
                }
                items.len()
            }
            // One object of its own rather than a list; an empty list may say `items: null`.
            None if !page.kind.ends_with("List") => {
                item::append(&mut list, request.kind, text)
                    .map_err(|error| garbled(request, &error))?;
                1
            }
            None => 0,
        };
        on_page(count);
        token = page.metadata.token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(list);
        }
    }
}

fn page_path(request: &Request, limit: Option<usize>, token: Option<&str>) -> String {
    let mut parameters = Vec::new();
    if request.kind == Kind::Secret {
        parameters.push(REMOTE_CLUSTERS.to_owned());
    }
    parameters.extend(limit.map(|limit| format!("limit={limit}")));
    parameters.extend(token.map(|token| format!("continue={}", percent_encoded(token))));
    match parameters.is_empty() {
        true => request.path.clone(),
        false => format!("{}?{}", request.path, parameters.join("&")),
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn garbled(request: &Request, error: &dyn std::error::Error) -> Failure {
    Failure::NoAnswer(format!("`{}` gave no JSON list: {error}", request.path))
}
