//! From flags and kubeconfig to a connection.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::request::{Connection, innermost};
use super::{ClusterError, ClusterOptions};

/// Finds the cluster and logs in. Exec plugins run here; no request is made yet.
pub(super) async fn connect(options: &ClusterOptions) -> Result<Connection, ClusterError> {
    let (context, mut config) = configuration(options).await?;
    if options.impersonate.is_some() {
        config
            .auth_info
            .impersonate
            .clone_from(&options.impersonate);
    }
    if !options.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    // Retries are this module's own: they end with the deadline.
    config.default_retry = false;
    config.connect_timeout =
        (options.request_timeout < Duration::MAX).then_some(options.request_timeout);
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| ClusterError::Credentials {
        context: context.clone(),
        reason: login_failure(&error),
    })?;
    Ok(Connection::new(
        client,
        context,
        server.trim_end_matches('/').to_owned(),
        options.request_timeout,
    ))
}

fn load(path: Option<&Path>) -> Result<Kubeconfig, String> {
    match path {
        Some(path) => Kubeconfig::read_from(path)
            .map_err(|error| format!("`{}`: {}", path.display(), innermost(&error))),
        None => Kubeconfig::read().map_err(|error| innermost(&error)),
    }
}

/// The names of all contexts.
pub(super) fn contexts(path: Option<&Path>) -> Result<Vec<String>, ClusterError> {
    let kubeconfig = load(path).map_err(ClusterError::NoConfiguration)?;
    Ok(kubeconfig
        .contexts
        .into_iter()
        .map(|context| context.name)
        .collect())
}

async fn configuration(options: &ClusterOptions) -> Result<(String, Config), ClusterError> {
    let loaded = load(options.kubeconfig.as_deref());
    let no_choice = [&options.context, &options.cluster, &options.user]
        .iter()
        .all(|choice| choice.is_none())
        && options.kubeconfig.is_none();
    let kubeconfig = match loaded {
        Ok(kubeconfig) if !(no_choice && kubeconfig.contexts.is_empty()) => kubeconfig,
        other => {
            if no_choice && let Ok(config) = Config::incluster() {
                return Ok(("in-cluster".to_owned(), config));
            }
            let reason = other
                .err()
                .unwrap_or_else(|| "the kubeconfig has no context".to_owned());
            return Err(ClusterError::NoConfiguration(reason));
        }
    };
    let context = options
        .context
        .clone()
        .or_else(|| kubeconfig.current_context.clone())
        .unwrap_or_default();
    let known: Vec<String> = kubeconfig
        .contexts
        .iter()
        .map(|context| format!("`{}`", context.name))
        .collect();
    if !kubeconfig
        .contexts
        .iter()
        .any(|known| known.name == context)
    {
        let known = known.join(", ");
        return Err(ClusterError::NoConfiguration(match context.as_str() {
            "" => format!("no context is the current one; the kubeconfig has {known}"),
            _ => format!("the kubeconfig has no context `{context}`; it has {known}"),
        }));
    }
    let choice = KubeConfigOptions {
        context: Some(context.clone()),
        cluster: options.cluster.clone(),
        user: options.user.clone(),
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &choice)
        .await
        .map_err(|error| {
            ClusterError::NoConfiguration(format!("context `{context}`: {}", innermost(&error)))
        })?;
    Ok((context, config))
}

/// Says why a login failed. What a plugin printed to standard output may be a token: it is left
/// out.
pub(super) fn login_failure(error: &kube::Error) -> String {
    use kube::client::AuthError;
    match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            let cmd = plugin_name(cmd);
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.trim();
            let status = out.status;
            if said.is_empty() {
                format!("the credential plugin `{cmd}` failed ({status})")
            } else {
                format!("the credential plugin `{cmd}` failed ({status}): {said}")
            }
        }
        kube::Error::Auth(AuthError::AuthExecStart(cause)) => {
            format!("the credential plugin of the kubeconfig cannot be run: {cause}")
        }
        error => innermost(error),
    }
}

/// The plugin and its arguments, from the text of its command: `VARIABLE="…" "program" "argument"`.
fn plugin_name(command: &str) -> String {
    let words = shlex::split(command).unwrap_or_else(|| vec![command.to_owned()]);
    let from_program = words.iter().skip_while(|word| word.contains('='));
    from_program.cloned().collect::<Vec<_>>().join(" ")
}
