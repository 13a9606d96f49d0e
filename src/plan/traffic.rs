//! Who was seen calling whom: Prometheus' answer to `istio_requests_total`.
//!
//! In: the JSON of a query, or lines of the text format. Out: a [`CallGraph`]. Invariant: a line that
//! names no source or destination workload is counted, not guessed; who would gain access matters
//! whether seen or not.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::snapshot::ObjectName;

/// Pairs of caller and server that telemetry saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallGraph {
    /// Caller and server.
    pub pairs: BTreeSet<(ObjectName, ObjectName)>,
    /// Series that name no workload on one of the sides (`unknown`), or count nothing.
    pub left_out: usize,
}

impl CallGraph {
    /// Reads a query result of the Prometheus API (JSON) or the text format.
    ///
    /// # Errors
    /// A sentence that says what is wrong, when nothing of it is a series of `istio_requests_total`
    /// or `istio_tcp_connections_opened_total`.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut graph = Self::default();
        if text.trim_start().starts_with('{') && text.contains("\"data\"") {
            graph.read_json(text)?;
        } else {
            for line in text.lines() {
                graph.read_line(line);
            }
        }
        if graph.pairs.is_empty() && graph.left_out == 0 {
            return Err(
                "it holds no series of istio_requests_total; save the answer of \
                 `/api/v1/query?query=sum by (source_workload, source_workload_namespace, destination_workload, \
                 destination_workload_namespace) (istio_requests_total)`"
                    .to_owned(),
            );
        }
        Ok(graph)
    }

    fn read_json(&mut self, text: &str) -> Result<(), String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
        if value["status"] == "error" {
            return Err(format!("Prometheus answered: {}", value["error"]));
        }
        let series = value["data"]["result"]
            .as_array()
            .ok_or("it has no `data.result`; save the answer of `/api/v1/query`")?;
        for one in series {
            let label = |name: &str| one["metric"][name].as_str().unwrap_or_default().to_owned();
            let last = one["value"].get(1).or_else(|| {
                let values = one["values"].as_array()?;
                values.last()?.get(1)
            });
            let count = last
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok());
            self.add(&label, count.unwrap_or(0.0));
        }
        Ok(())
    }

    /// `istio_requests_total{source_workload="web",…} 12`.
    fn read_line(&mut self, line: &str) {
        let line = line.trim();
        let is_series = [
            "istio_requests_total{",
            "istio_tcp_connections_opened_total{",
        ]
        .iter()
        .any(|name| line.starts_with(name));
        let Some((labels, rest)) = line
            .split_once('{')
            .and_then(|(_, rest)| rest.rsplit_once('}'))
            .filter(|_| is_series)
        else {
            return;
        };
        let label = |name: &str| {
            labels
                .split(',')
                .find_map(|pair| {
                    let (key, value) = pair.split_once('=')?;
                    (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
                })
                .unwrap_or_default()
        };
        let count = rest
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok());
        self.add(&label, count.unwrap_or(0.0));
    }

    fn add(&mut self, label: &dyn Fn(&str) -> String, count: f64) {
        let side = |side: &str| {
            let (name, namespace) = (
                label(&format!("{side}_workload")),
                label(&format!("{side}_workload_namespace")),
            );
            let known = |text: &str| !text.is_empty() && text != "unknown";
            (known(&name) && known(&namespace)).then(|| ObjectName::new(&namespace, &name))
        };
        match (side("source"), side("destination")) {
            (Some(caller), Some(server)) if count > 0.0 => {
                self.pairs.insert((caller, server));
            }
            _ => self.left_out += 1,
        }
    }

    /// Whether this caller was seen at this server.
    pub fn saw(&self, caller: &ObjectName, server: &ObjectName) -> bool {
        self.pairs.contains(&(caller.clone(), server.clone()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn pairs(graph: &CallGraph) -> Vec<String> {
        graph
            .pairs
            .iter()
            .map(|(caller, server)| format!("{caller} → {server}"))
            .collect()
    }

    #[test]
    fn a_query_result_is_read() {
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"source_workload":"web","source_workload_namespace":"desk",
              "destination_workload":"cart","destination_workload_namespace":"shop"},"value":[1,"12"]},
            {"metric":{"source_workload":"old","source_workload_namespace":"desk",
              "destination_workload":"cart","destination_workload_namespace":"shop"},"value":[1,"0"]},
            {"metric":{"source_workload":"unknown","source_workload_namespace":"unknown",
              "destination_workload":"cart","destination_workload_namespace":"shop"},"value":[1,"3"]}]}}"#;
        let graph = CallGraph::read(text).unwrap();
        assert_eq!(pairs(&graph), ["desk/web → shop/cart"]);
        assert_eq!(graph.left_out, 2);
    }

    #[test]
    fn the_text_format_is_read() {
        let text = "# HELP istio_requests_total requests\n\
            istio_requests_total{reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"desk\",\
            destination_workload=\"cart\",destination_workload_namespace=\"shop\"} 5 1700000000\n\
            go_goroutines 12\n";
        assert_eq!(
            pairs(&CallGraph::read(text).unwrap()),
            ["desk/web → shop/cart"]
        );
    }

    #[test]
    fn what_is_no_telemetry_is_refused() {
        assert!(CallGraph::read("hello").is_err());
        assert!(
            CallGraph::read(r#"{"status":"error","error":"bad query","data":{}}"#)
                .unwrap_err()
                .contains("bad query")
        );
    }
}
