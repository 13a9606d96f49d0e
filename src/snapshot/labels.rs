//! Labels and annotations: a sorted list of pairs, small because there are 50,000 pods.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// Labels (or annotations) of one object, sorted by key, each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Vec<(SmolStr, SmolStr)>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
            .ok()
            .map(|index| self.0[index].1.as_str())
    }

    /// Whether the label is there with exactly this value.
    pub fn has(&self, key: &str, value: &str) -> bool {
        self.get(key) == Some(value)
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Sets a label, replacing the value it had.
    pub fn set(&mut self, key: &str, value: &str) {
        match self
            .0
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
        {
            Ok(index) => self.0[index].1 = value.into(),
            Err(index) => self.0.insert(index, (key.into(), value.into())),
        }
    }

    /// Removes a label and returns the value it had.
    pub fn remove(&mut self, key: &str) -> Option<SmolStr> {
        let index = self
            .0
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
            .ok()?;
        Some(self.0.remove(index).1)
    }

    /// Whether every pair of `selector` is among these labels. An empty selector selects all.
    pub fn selected_by(&self, selector: &Labels) -> bool {
        selector.iter().all(|(key, value)| self.has(key, value))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        Self(list)
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
