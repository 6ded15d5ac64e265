//! Images, and the credentials to pull them with.

use super::{Result, Wrong};
use cofferdam_cri_api::v1;
use cofferdam_images::{Image, Reference};

/// An image on the wire. `pinned` says whether garbage collection keeps it.
pub(crate) fn image(image: &Image, pinned: bool) -> v1::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    // As containerd has it: no user at all is user 0 by number.
    let uid = if user.is_empty() { Some(0) } else { user.parse::<i64>().ok() };
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image
            .names
            .iter()
            .filter(|name| Reference::parse(name).is_ok_and(|r| r.digest().is_none()))
            .cloned()
            .collect(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        uid: uid.map(|value| v1::Int64Value { value }),
        spec: None,
        pinned,
    }
}

/// Credentials in the form of a docker configuration, for the registry of `image`. `None` where there are
/// none, or where they are for another registry, which must not see them.
pub(crate) fn docker_config(image: &str, auth: &v1::AuthConfig) -> Result<Option<Vec<u8>>> {
    let reference = Reference::parse(image).map_err(|e| Wrong::new("image.image", e))?;
    let registry = reference.repository().split('/').next().unwrap_or_default();
    let given = [
        &auth.username,
        &auth.password,
        &auth.auth,
        &auth.identity_token,
        &auth.registry_token,
    ];
    if given.iter().all(|text| text.is_empty()) {
        return Ok(None);
    }
    if !auth.server_address.is_empty() && host(&auth.server_address) != host(registry) {
        return Ok(None);
    }
    let mut entry = serde_json::Map::new();
    for (key, value) in [
        ("username", &auth.username),
        ("password", &auth.password),
        ("auth", &auth.auth),
        ("identitytoken", &auth.identity_token),
        ("registrytoken", &auth.registry_token),
    ] {
        if !value.is_empty() {
            entry.insert(key.to_owned(), value.as_str().into());
        }
    }
    let config = serde_json::json!({ "auths": { registry: entry } });
    Ok(Some(config.to_string().into_bytes()))
}

/// The host of an address as docker configurations write it, Docker Hub under one name.
fn host(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
    if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host.as_str()) {
        "docker.io".to_owned()
    } else {
        host
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn credentials_go_to_their_own_registry_alone() {
        let auth = |server: &str| v1::AuthConfig {
            username: "u".into(),
            password: "p".into(),
            server_address: server.into(),
            ..Default::default()
        };
        for (image, server, given) in [
            ("quay.io/a/b:1", "", true),
            ("quay.io/a/b:1", "quay.io", true),
            ("quay.io/a/b:1", "https://quay.io/v2/", true),
            ("quay.io/a/b:1", "docker.io", false),
            ("busybox", "https://index.docker.io/v1/", true),
            ("localhost:5000/x", "http://localhost:5000", true),
            ("localhost:5000/x", "http://localhost:5001", false),
        ] {
            let config = docker_config(image, &auth(server)).unwrap();
            assert_eq!(config.is_some(), given, "{image} {server}");
        }
        assert_eq!(docker_config("busybox", &v1::AuthConfig::default()).unwrap(), None);
        assert!(docker_config("UPPER", &auth("")).is_err());
    }

    #[test]
    fn every_kind_of_credential_is_passed_on() {
        let auth = v1::AuthConfig {
            auth: "dTpw".into(),
            identity_token: "i".into(),
            registry_token: "r".into(),
            ..Default::default()
        };
        let config: serde_json::Value = serde_json::from_slice(&docker_config("q.io/x", &auth).unwrap().unwrap()).unwrap();
        assert_eq!(
            config,
            serde_json::json!({"auths": {"q.io": {"auth": "dTpw", "identitytoken": "i", "registrytoken": "r"}}})
        );
    }
}
