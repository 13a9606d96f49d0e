//! Commands that add ambient mode to the installation that was found.
//!
//! In: a control plane and the platform. Out: [`Remedy`] values for istioctl and for Helm, with the
//! hub, tag, revision and platform of this installation. Invariant: nothing is set that was not
//! read; what cannot be read (overlays, values files) is said as advice.

use crate::finding::Remedy;
use crate::mesh::ControlPlane;
use crate::phases::Context;
use crate::phases::platform::Platform;

/// The commands for one control plane and the node agents.
pub fn commands(context: &Context<'_>, one: &ControlPlane) -> Vec<Remedy> {
    let values = Values::of(context, one);
    let namespace = &one.object.name.namespace;
    let mut remedies = vec![
        Remedy::Advice(
            "either with istioctl, adding the options and the IstioOperator file (-f) of the \
             present installation, which castoff cannot read back:"
                .to_owned(),
        ),
        Remedy::command_without_undo(values.istioctl()),
        Remedy::Advice("or with Helm, in this order:".to_owned()),
    ];
    let chart = |release: String, chart: &str, install: bool| {
        let verb = if install { "install" } else { "upgrade" };
        let keep = if install { "" } else { " --reuse-values" };
        let run = format!(
            "helm {verb} {release} istio/{chart} -n {namespace}{keep}{} --set profile=ambient{} --wait",
            values.chart_version(),
            values.helm()
        );
        let undo = if install {
            format!("helm uninstall {release} -n {namespace}")
        } else {
            format!("helm rollback {release} -n {namespace}")
        };
        Remedy::command(run, undo)
    };
    let istiod_release = if one.revision == "default" {
        "istiod".to_owned()
    } else {
        format!("istiod-{}", one.revision)
    };
    remedies.push(chart(istiod_release, "istiod", false));
    remedies.push(chart(
        "istio-cni".to_owned(),
        "cni",
        context.mesh.cni_agent.is_none(),
    ));
    remedies.push(chart(
        "ztunnel".to_owned(),
        "ztunnel",
        context.mesh.ztunnel.is_none(),
    ));
    remedies
}

struct Values<'a> {
    hub: &'a str,
    tag: &'a str,
    variant: Option<&'a str>,
    revision: Option<&'a str>,
    platform: Option<Platform>,
}

impl<'a> Values<'a> {
    fn of(context: &Context<'_>, one: &'a ControlPlane) -> Self {
        // Charts append the variant to the tag themselves (istio manifests/charts,
        // `global.variant`).
        let (tag, variant) = ["distroless", "debug"]
            .into_iter()
            .find_map(|variant| {
                let tag = one.tag.strip_suffix(variant)?.strip_suffix('-')?;
                Some((tag, Some(variant)))
            })
            .unwrap_or((one.tag.as_str(), None));
        Self {
            hub: &one.hub,
            tag,
            variant,
            revision: (one.revision != "default").then_some(one.revision.as_str()),
            platform: Platform::of(context.snapshot).into_iter().next(),
        }
    }

    fn istioctl(&self) -> String {
        let mut command = "istioctl install --set profile=ambient".to_owned();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                command.push_str(&format!(" --set {key}={value}"));
            }
        };
        set("hub", self.hub);
        set("tag", self.tag);
        set("values.global.variant", self.variant.unwrap_or_default());
        set("revision", self.revision.unwrap_or_default());
        if let Some(platform) = self.platform {
            set("values.global.platform", platform.value());
        }
        command
    }

    fn helm(&self) -> String {
        let mut text = String::new();
        let mut set = |key: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!(" --set {key}={value}"));
            }
        };
        set("global.hub", self.hub);
        set("global.tag", self.tag);
        set("global.variant", self.variant.unwrap_or_default());
        set("revision", self.revision.unwrap_or_default());
        if let Some(platform) = self.platform {
            set("global.platform", platform.value());
        }
        text
    }

    /// Charts have the release's number; a vendor's suffix belongs to the images only.
    fn chart_version(&self) -> String {
        let number = self.tag.split('-').next().unwrap_or_default();
        let is_release = number.split('.').count() == 3
            && number
                .chars()
                .all(|letter| letter.is_ascii_digit() || letter == '.');
        if is_release {
            format!(" --version {number}")
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{context, istiod, mesh};
    use crate::snapshot::Snapshot;

    fn runs(remedies: &[Remedy]) -> Vec<&str> {
        remedies
            .iter()
            .filter_map(|remedy| match remedy {
                Remedy::Command { run, .. } => Some(run.as_str()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn commands_carry_the_values_of_this_installation() {
        let mut one = istiod("1.30.3-distroless", &[]);
        one.revision = "canary".into();
        let (mesh, snapshot, options) = (mesh(), Snapshot::default(), MigrateOptions::default());
        let remedies = commands(&context(&mesh, &snapshot, &options), &one);
        assert_eq!(
            runs(&remedies),
            [
                "istioctl install --set profile=ambient --set hub=docker.io/istio --set tag=1.30.3 \
                 --set values.global.variant=distroless --set revision=canary",
                "helm upgrade istiod-canary istio/istiod -n istio-system --reuse-values --version \
                 1.30.3 --set profile=ambient --set global.hub=docker.io/istio --set \
                 global.tag=1.30.3 --set global.variant=distroless --set revision=canary --wait",
                "helm install istio-cni istio/cni -n istio-system --version 1.30.3 --set \
                 profile=ambient --set global.hub=docker.io/istio --set global.tag=1.30.3 --set \
                 global.variant=distroless --set revision=canary --wait",
                "helm install ztunnel istio/ztunnel -n istio-system --version 1.30.3 --set \
                 profile=ambient --set global.hub=docker.io/istio --set global.tag=1.30.3 --set \
                 global.variant=distroless --set revision=canary --wait",
            ]
        );
    }

    #[test]
    fn a_vendor_suffix_stays_with_the_image() {
        let one = istiod("1.25.2-solo", &[]);
        let (mesh, snapshot, options) = (mesh(), Snapshot::default(), MigrateOptions::default());
        let remedies = commands(&context(&mesh, &snapshot, &options), &one);
        assert_eq!(
            runs(&remedies)[0],
            "istioctl install --set profile=ambient --set hub=docker.io/istio --set tag=1.25.2-solo"
        );
        assert!(runs(&remedies)[1].contains("--version 1.25.2 "));
    }
}
