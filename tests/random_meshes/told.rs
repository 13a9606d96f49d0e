//! A request that was gained or lost, with its paths and the routes of both states, as text.

use castoff::prove::tell::decision;
use castoff_authz::eval::evaluate;
use castoff_authz::path::EnforcementPath;
use castoff_authz::request::Request;

use super::{Asked, Call};

impl Asked<'_> {
    pub(super) fn told(&self, request: &Request) -> String {
        let lines = |paths: &[EnforcementPath], call: &Call| -> Vec<String> {
            let line = |path: &EnforcementPath| {
                let decided = evaluate(&call.sends(request), path);
                let used = if path.in_use { "" } else { " (not in use)" };
                format!("  {}{used}: {}", path.address, decision(&decided, path))
            };
            paths.iter().map(line).collect()
        };
        let routes = self.sides.map(|side| {
            let traffic = &side.mesh.traffic;
            let virtual_services = traffic.virtual_services.iter().map(|one| &one.raw);
            let raws = virtual_services.chain(traffic.routes.iter().map(|one| &one.raw));
            let texts: Vec<String> = raws.map(|raw| format!("  {raw}")).collect();
            texts.join("\n")
        });
        format!(
            "{} ({:?}, was {:?}) to {}:{} {:?}\n before:\n{}\n{}\n now:\n{}\n{}\n {request:?}",
            self.pair.name,
            self.pair.now.0.caller.mode,
            self.pair.before.0.caller.mode,
            self.server.name,
            self.port,
            self.content,
            lines(&self.before, &self.pair.before.0).join("\n"),
            routes[0],
            lines(&self.now, &self.pair.now.0).join("\n"),
            routes[1],
        )
    }
}
