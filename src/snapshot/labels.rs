//! Labels and annotations: a sorted list of pairs. Equal lists read one after the other share their
//! memory, because there are 50,000 pods and replicas carry the same labels.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use super::shared::Recent;

/// Labels (or annotations) of one object, sorted by key, each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Option<Arc<[(SmolStr, SmolStr)]>>);

thread_local! {
    static RECENT: Recent<[(SmolStr, SmolStr)]> = Recent::new();
}

impl Labels {
    fn pairs(&self) -> &[(SmolStr, SmolStr)] {
        self.0.as_deref().unwrap_or_default()
    }

    fn from_sorted(pairs: Vec<(SmolStr, SmolStr)>) -> Self {
        if pairs.is_empty() {
            return Self(None);
        }
        Self(Some(RECENT.with(|recent| recent.share(pairs))))
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        pairs
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
            .ok()
            .map(|index| pairs[index].1.as_str())
    }

    /// Whether the label is there with exactly this value.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs()
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets a label, replacing the value it had.
    pub fn set(&mut self, key: &str, value: &str) {
        let mut pairs = self.pairs().to_vec();
        match pairs.binary_search_by(|(known, _)| known.as_str().cmp(key)) {
            Ok(index) => pairs[index].1 = value.into(),
            Err(index) => pairs.insert(index, (key.into(), value.into())),
        }
        *self = Self::from_sorted(pairs);
    }

    /// Removes a label and returns the value it had.
    pub fn remove(&mut self, key: &str) -> Option<SmolStr> {
        let index = self
            .pairs()
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
            .ok()?;
        let mut pairs = self.pairs().to_vec();
        let (_, value) = pairs.remove(index);
        *self = Self::from_sorted(pairs);
        Some(value)
    }

    /// Whether every pair of `selector` is among these labels. An empty selector selects all.
    pub fn selected_by(&self, selector: &Labels) -> bool {
        selector.iter().all(|(key, value)| self.has(key, value))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs().is_empty()
    }
}

impl<K: Into<SmolStr>, V: Into<SmolStr>> FromIterator<(K, V)> for Labels {
    /// The later of two equal keys wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut list: Vec<(SmolStr, SmolStr)> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        list.sort_by(|left, right| left.0.cmp(&right.0));
        list.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self::from_sorted(list)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = Labels;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a map of strings")
            }
            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Labels, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<SmolStr, Option<SmolStr>>()? {
                    pairs.push((key, value.unwrap_or_default()));
                }
                Ok(pairs.into_iter().collect())
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
