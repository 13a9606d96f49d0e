//! A report without what may differ between two sources of one mesh.

/// The report (JSON) without the places of objects and the words for the input.
pub(crate) fn without_origins(report: &str) -> String {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                for key in ["origin", "input", "next"] {
                    map.remove(key);
                }
                map.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut report = serde_json::from_str(report).unwrap();
    strip(&mut report);
    serde_json::to_string_pretty(&report).unwrap()
}
