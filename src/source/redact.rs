//! A recording without its names: every word that is not one of Kubernetes' or Istio's own becomes
//! a hash, the same everywhere.
//!
//! In: the objects of a recording, as JSON. Out: the same objects, words hashed. Invariant: a word
//! stays only if it is listed here or stands in a field whose values are listed by an API; whatever
//! nobody thought of is hashed. Equal words give equal hashes, in names, labels, hosts, identities
//! and policies alike, so what refers to each other still does.

mod vocabulary;

use std::collections::BTreeSet;

use ring::hmac;
use serde_json::{Map, Value};

use super::recording::Recording;
use crate::snapshot::Kind;

/// Hashes words with one key: without the key nobody can try out names.
pub struct Redactor {
    key: hmac::Key,
    /// Words that stood at a `*`, and on which side of it.
    partial: BTreeSet<(String, Side)>,
    words: BTreeSet<String>,
}

/// Where a pattern goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    /// `ord*`
    After,
    /// `*ers`
    Before,
}

/// Letters and digits of a hash; 48 bits keep 100,000 words apart.
const HASH_DIGITS: usize = 12;

impl Redactor {
    /// A redactor; the same key gives the same hashes.
    pub fn new(key: &str) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            partial: BTreeSet::new(),
            words: BTreeSet::new(),
        }
    }

    /// Redacts everything.
    ///
    /// # Errors
    /// A list that is no JSON, which a live read never leaves behind.
    pub fn recording(&mut self, recording: &mut Recording) -> Result<(), serde_json::Error> {
        recording.context = self.text(&recording.context).into();
        for (kind, list) in &mut recording.lists {
            let items: Vec<Value> = serde_json::from_str(&format!("[{}]", list.items))?;
            let mut kept = Vec::with_capacity(items.len());
            for mut item in items {
                if self.object(*kind, &mut item) {
                    kept.push(item.to_string());
                }
            }
            list.count = kept.len();
            list.items = kept.join(",\n");
        }
        for gap in &mut recording.gaps {
            gap.namespace = gap.namespace.as_deref().map(|name| self.text(name));
            let named = std::mem::take(&mut gap.except);
            for name in &named {
                gap.reason = gap
                    .reason
                    .replace(&format!("`{name}`"), &format!("`{}`", self.text(name)));
            }
            gap.except = named.iter().map(|name| self.text(name)).collect();
        }
        Ok(())
    }

    /// Redacts one object; `false` when it is to be left out.
    pub fn object(&mut self, kind: Kind, object: &mut Value) -> bool {
        if kind == Kind::CustomResourceDefinition {
            return definition(object);
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in vocabulary::METADATA_LEFT_OUT {
                metadata.remove(key);
            }
        }
        self.value("", object);
        true
    }

    /// Patterns that may match something else now: they end inside a word that another word of the
    /// recording begins (or ends) with.
    pub fn changed_patterns(&self) -> usize {
        self.partial
            .iter()
            .filter(|(part, side)| {
                self.words.iter().any(|word| {
                    word != part
                        && match side {
                            Side::After => word.starts_with(part.as_str()),
                            Side::Before => word.ends_with(part.as_str()),
                        }
                })
            })
            .count()
    }

    fn value(&mut self, key: &str, value: &mut Value) {
        if vocabulary::KEPT_FIELDS.contains(&key) {
            return;
        }
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => {
                if key == "env" {
                    items.retain(|item| {
                        let name = item.get("name").and_then(Value::as_str);
                        name.is_some_and(vocabulary::is_environment_of_the_mesh)
                    });
                    for item in items {
                        self.environment(item);
                    }
                    return;
                }
                for item in items {
                    self.value(key, item);
                }
            }
            Value::Object(fields) if vocabulary::MAPS_OF_NAMES.contains(&key) => {
                self.map_of_names(key, fields);
            }
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    self.value(key, value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn environment(&mut self, item: &mut Value) {
        if let Some(fields) = item.as_object_mut() {
            for (key, value) in fields.iter_mut().filter(|(key, _)| *key != "name") {
                self.value(key, value);
            }
        }
    }

    fn map_of_names(&mut self, key: &str, fields: &mut Map<String, Value>) {
        let old = std::mem::take(fields);
        for (name, mut value) in old {
            let known = vocabulary::is_of_an_api(&name);
            if key == "annotations" && !known {
                continue;
            }
            let name = if known || key == "data" {
                name
            } else {
                self.text(&name)
            };
            self.value("", &mut value);
            fields.insert(name, value);
        }
    }

    /// Hashes the words of a text.
    pub fn text(&mut self, text: &str) -> String {
        if vocabulary::is_time(text) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(first) = rest.chars().next() {
            let length = rest
                .find(|character: char| !character.is_alphanumeric())
                .unwrap_or(rest.len());
            if length == 0 {
                out.push(first);
                before = Some(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let (word, after) = rest.split_at(length);
            out.push_str(&self.word(word, before, after.chars().next()));
            before = word.chars().last();
            rest = after;
        }
        out
    }

    fn word(&mut self, word: &str, before: Option<char>, after: Option<char>) -> String {
        if vocabulary::is_known(word) || is_hash(word) {
            return word.to_owned();
        }
        if before == Some('*') {
            self.partial.insert((word.to_owned(), Side::Before));
        }
        if after == Some('*') {
            self.partial.insert((word.to_owned(), Side::After));
        }
        self.words.insert(word.to_owned());
        let tag = hmac::sign(&self.key, word.as_bytes());
        let mut hash = String::from("x");
        for byte in &tag.as_ref()[..HASH_DIGITS / 2] {
            hash.push_str(&format!("{byte:02x}"));
        }
        hash
    }
}

/// Whether a word is what this module makes of words: redacting twice changes nothing more.
fn is_hash(word: &str) -> bool {
    word.len() == HASH_DIGITS + 1
        && word.starts_with('x')
        && word[1..]
            .chars()
            .all(|character| character.is_ascii_digit() || ('a'..='f').contains(&character))
}

/// Of definitions only those of Istio and the Gateway API are kept, without their schemas.
fn definition(object: &mut Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if !name.ends_with(".istio.io") && !name.ends_with("gateway.networking.k8s.io") {
        return false;
    }
    *object = serde_json::json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {
            "name": name,
            "annotations": object["metadata"]["annotations"],
        },
        "spec": {
            "group": object["spec"]["group"],
            "versions": object["spec"]["versions"].as_array().map(|versions| {
                versions
                    .iter()
                    .map(|version| {
                        serde_json::json!({"name": version["name"], "served": version["served"]})
                    })
                    .collect::<Vec<_>>()
            }),
        },
        "status": {"conditions": object["status"]["conditions"]},
    });
    // A null annotation map would be no map.
    if object["metadata"]["annotations"].is_null()
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_stay_equal_wherever_they_stand() {
        let mut redactor = Redactor::new("key");
        let shop = redactor.text("shop");
        let orders = redactor.text("orders");
        assert_eq!(shop.len(), HASH_DIGITS + 1);
        assert_eq!(
            redactor.text("cluster.local/ns/shop/sa/orders"),
            format!("cluster.local/ns/{shop}/sa/{orders}")
        );
        assert_eq!(
            redactor.text("*.shop.svc.cluster.local"),
            format!("*.{shop}.svc.cluster.local")
        );
        assert_eq!(redactor.text("orders-v1"), format!("{orders}-v1"));
        assert_eq!(redactor.text(&shop), shop);
        assert_ne!(Redactor::new("other").text("shop"), shop);
    }

    #[test]
    fn a_pattern_that_ends_inside_another_word_is_counted() {
        let mut redactor = Redactor::new("key");
        redactor.text("/orders/*");
        redactor.text("/admin*");
        assert_eq!(redactor.changed_patterns(), 0);
        redactor.text("/administrator");
        assert_eq!(redactor.changed_patterns(), 1);
        redactor.text("*ders");
        assert_eq!(redactor.changed_patterns(), 2);
    }
}
