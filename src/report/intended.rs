//! Differences that somebody says are meant: `opens:shop/orders`, `breaks:shop/*:8080`, `new:shop/cart`,
//! `gone:shop/basket`.
//!
//! In: text of an option. Out: [`Intended`], and whether it covers a difference. Invariant: it covers
//! gains or losses that were shown by a witness, and workloads that only one input has; what is undecided is never covered.

use std::str::FromStr;

/// One intended difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intended {
    text: String,
    direction: &'static str,
    namespace: String,
    name: String,
    port: Option<u16>,
}

impl Intended {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it covers what was found at a server's port. `server` is `namespace/name`, `direction`
    /// `opens`, `breaks`, `new`, or `calls`, which `new` without a port covers.
    pub fn covers(&self, server: &str, port: u16, direction: &str) -> bool {
        let of_port = match (self.direction, direction) {
            ("new", "calls") => self.port.is_none(),
            (own, other) => own == other && self.port.is_none_or(|wanted| wanted == port),
        };
        of_port && self.names(server)
    }

    /// Whether it is about a workload that only the second input has.
    pub fn covers_newcomer(&self, server: &str) -> bool {
        self.direction == "new" && self.port.is_none() && self.names(server)
    }

    /// Whether it covers that a workload is only in the first input.
    pub fn covers_gone(&self, server: &str) -> bool {
        self.direction == "gone" && self.names(server)
    }

    fn names(&self, server: &str) -> bool {
        server.split_once('/').is_some_and(|(namespace, name)| {
            matches(&self.namespace, namespace) && matches(&self.name, name)
        })
    }
}

/// A name, `*`, or a beginning with `*` after it.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

impl FromStr for Intended {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{why}; write `opens:NAMESPACE/WORKLOAD` or `breaks:NAMESPACE/WORKLOAD:PORT` (or `new:`, `gone:`), with `*` \
                 at the end of a name"
            )
        };
        let (direction, rest) = text
            .split_once(':')
            .ok_or_else(|| wrong("no `:` between direction and server"))?;
        let direction = match direction {
            "opens" => "opens",
            "breaks" => "breaks",
            "new" => "new",
            "gone" => "gone",
            _ => {
                return Err(wrong(
                    "the direction is none of `opens`, `breaks`, `new` and `gone`",
                ));
            }
        };
        let (server, port) = match rest.split_once(':') {
            Some((server, port)) => {
                let port = port.parse().map_err(|_| wrong("the port is no number"))?;
                (server, Some(port))
            }
            None => (rest, None),
        };
        if direction == "gone" && port.is_some() {
            return Err(wrong("what is gone has no port"));
        }
        let (namespace, name) = server
            .split_once('/')
            .ok_or_else(|| wrong("no `/` between namespace and workload"))?;
        let in_the_middle =
            |part: &str| part.trim_end_matches('*').contains('*') || part.ends_with("**");
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return Err(wrong("namespace or workload is missing"));
        }
        if in_the_middle(namespace) || in_the_middle(name) {
            return Err(wrong("`*` stands in the middle of a name"));
        }
        Ok(Self {
            text: text.to_owned(),
            direction,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn an_intended_difference_covers_what_it_names_and_nothing_else() {
        let table = [
            ("opens:shop/orders", "shop/orders", 8080, "opens", true),
            ("opens:shop/orders", "shop/orders", 8080, "breaks", false),
            ("opens:shop/orders", "shop/orders-db", 8080, "opens", false),
            ("opens:shop/*", "shop/orders", 8080, "opens", true),
            ("opens:*/orders", "shop/orders", 8080, "opens", true),
            ("opens:team-*/web", "team-a/web", 80, "opens", true),
            ("opens:team-*/web", "other/web", 80, "opens", false),
            (
                "breaks:shop/orders:8080",
                "shop/orders",
                8080,
                "breaks",
                true,
            ),
            (
                "breaks:shop/orders:8080",
                "shop/orders",
                9090,
                "breaks",
                false,
            ),
            ("opens:shop/orders", "shop/orders", 8080, "undecided", false),
            ("opens:shop/orders", "shop/orders", 8080, "new", false),
            ("new:shop/cart", "shop/cart", 8080, "new", true),
            ("new:shop/cart", "shop/cart", 8080, "opens", false),
            ("new:shop/cart", "shop/cart", 8080, "calls", true),
            ("new:shop/cart:8080", "shop/cart", 8080, "new", true),
            // The port is that of another server.
            ("new:shop/cart:8080", "shop/cart", 8080, "calls", false),
            ("new:shop/cart", "shop/cart", 8080, "undecided", false),
        ];
        for (text, server, port, direction, expected) in table {
            let intended: Intended = text.parse().unwrap();
            let covers = intended.covers(server, port, direction);
            assert_eq!(covers, expected, "{text} {server} {port} {direction}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_form() {
        for text in [
            "shop/orders",
            "undecided:shop/orders",
            "calls:shop/orders",
            "gone:shop/orders:80",
            "opens:orders",
            "opens:shop/",
            "opens:shop/a*b",
            "opens:shop/**",
            "opens:shop/orders:http",
            "opens:shop/orders/x",
        ] {
            let error = text.parse::<Intended>().unwrap_err();
            assert!(error.contains("opens:NAMESPACE/WORKLOAD"), "{error}");
        }
    }
}
