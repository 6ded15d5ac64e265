//! From a kubeconfig to a client.

use std::path::Path;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::Error;
use crate::fetch::text;

/// A client, and the server that it asks. Runs the credential plugin, if one is named.
pub(crate) async fn client(kubeconfig: Option<&Path>, context: Option<&str>, limit: Duration) -> Result<(kube::Client, String), Error> {
    // Whoever installed one before us has had the first word; here, too, only ring is linked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = config(kubeconfig, context).await?;
    config.connect_timeout = Some(limit);
    config.write_timeout = Some(limit);
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let wrong = |why: String| Error::Credentials {
        server: server.clone(),
        why: text(&why),
    };
    read_token(&mut config).map_err(wrong)?;
    check_token(&config).map_err(wrong)?;
    let client = kube::Client::try_from(config).map_err(|e| wrong(e.to_string()))?;
    Ok((client, server))
}

/// Reads the token file once, here: kube would take a line end at its end for a part of the token,
/// kubectl does not. As in kubectl, the file comes before a token beside it, if it can be read.
fn read_token(config: &mut Config) -> Result<(), String> {
    let Some(file) = config.auth_info.token_file.take() else {
        return Ok(());
    };
    match std::fs::read_to_string(&file) {
        Ok(token) => config.auth_info.token = Some(token.trim().to_owned().into()),
        Err(_) if config.auth_info.token.is_some() => {}
        Err(e) => return Err(format!("the token file {file} cannot be read: {e}")),
    }
    Ok(())
}

/// kube panics over a token that no header can carry.
fn check_token(config: &Config) -> Result<(), String> {
    let user = serde_json::to_value(&config.auth_info).map_err(|e| e.to_string())?;
    match user["token"].as_str() {
        Some(token) if http::HeaderValue::try_from(format!("Bearer {token}")).is_err() => {
            Err("its token has characters that no token has, such as a line end".to_owned())
        }
        _ => Ok(()),
    }
}

async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, Error> {
    let file = kubeconfig.map_or_else(from_environment, |path| format!("the kubeconfig {}", path.display()));
    let wrong = |e: KubeconfigError| Error::Kubeconfig {
        file: file.clone(),
        why: why(&e),
    };
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    match read {
        Ok(read) => {
            let options = KubeConfigOptions {
                context: context.map(str::to_owned),
                ..KubeConfigOptions::default()
            };
            let mut config = Config::from_custom_kubeconfig(read, &options).await.map_err(wrong)?;
            check_server(&mut config).map_err(|why| Error::Kubeconfig { file, why })?;
            Ok(config)
        }
        Err(e) if kubeconfig.is_none() && is_missing(&e) => in_a_pod(context),
        Err(e) => Err(wrong(e)),
    }
}

/// kube panics over an address without a scheme; kubectl takes https where there is something to do
/// with certificates.
fn check_server(config: &mut Config) -> Result<(), String> {
    let url = &config.cluster_url;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("the server of its cluster has credentials in it, which belong into its user".to_owned());
    }
    match url.scheme_str() {
        Some("http" | "https") => return Ok(()),
        None if !authority.is_empty() => {}
        _ => return Err("the server of its cluster is no address of http or https".to_owned()),
    }
    let user = &config.auth_info;
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let secure = config.root_cert.is_some() || config.accept_invalid_certs || has_certificate;
    let scheme = if secure { "https" } else { "http" };
    config.cluster_url = format!("{scheme}://{authority}")
        .parse()
        .map_err(|e| format!("the server of its cluster is no address: {e}"))?;
    Ok(())
}

fn from_environment() -> String {
    match std::env::var_os("KUBECONFIG") {
        Some(paths) if !paths.is_empty() => format!("$KUBECONFIG ({})", paths.display()),
        _ => "the kubeconfig ~/.kube/config".to_owned(),
    }
}

/// The service account's token and the environment that every container of a pod has.
fn in_a_pod(context: Option<&str>) -> Result<Config, Error> {
    if context.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        return Err(Error::NoKubeconfig);
    }
    Config::incluster().map_err(|e| Error::Kubeconfig {
        file: "the pod's service account".to_owned(),
        why: text(&e.to_string()),
    })
}

/// Whether it is the kubeconfig itself that is not there, not a file that one names.
fn is_missing(e: &KubeconfigError) -> bool {
    match e {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(e, _) => e.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Says in the kubeconfig's own terms what is wrong.
fn why(e: &KubeconfigError) -> String {
    text(&match e {
        KubeconfigError::CurrentContextNotSet => "it has no current-context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("it has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster {name:?}, which its context names"),
        KubeconfigError::MissingClusterUrl => "the cluster of its context has no server".to_owned(),
        KubeconfigError::ReadConfig(e, _) => e.to_string(),
        other => other.to_string(),
    })
}
