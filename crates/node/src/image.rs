//! When an image is pulled, and with what credentials (`pkg/kubelet/images`, `pkg/credentialprovider/secrets`).
//!
//! One deliberate difference: a container that names no `imagePullPolicy` uses the image that is on the
//! machine, also under the tag `latest`, where upstream's default would ask the registry
//! (`pkg/apis/core/v1/defaults.go`). Images are loaded from archives here, under names whose registry may
//! not have them. A policy that is written holds as written.

use crate::setup::Objects;
use base64::Engine as _;
use cofferdam_model::cri::Error;
use cofferdam_model::objects::Secret;
use cofferdam_model::pod::{Pod, PullPolicy};
use std::time::Duration;

/// Reason of a container whose image could not be pulled (`pkg/kubelet/images/types.go`).
pub const REASON_PULL: &str = "ErrImagePull";
/// Reason of a container whose image is pulled again later.
pub const REASON_BACKOFF: &str = "ImagePullBackOff";
/// Reason of a container whose image is not there, and by its policy must not be pulled.
pub const REASON_NEVER: &str = "ErrImageNeverPull";
/// Reason of the event on an image that could not be looked for (`pkg/kubelet/events`).
pub const REASON_INSPECT: &str = "InspectFailed";
/// Reason of a container whose image has an impossible name.
pub const REASON_NAME: &str = "InvalidImageName";

/// The wait before the second pull; it doubles (the kubelet's `backOffPeriod`).
pub const FIRST_PULL_WAIT: Duration = Duration::from_secs(10);
/// The longest wait between pulls (the kubelet's `MaxContainerBackOff`).
pub const MAX_PULL_WAIT: Duration = Duration::from_secs(300);

/// The wait after `tries` pulls that failed.
pub(crate) fn wait(tries: u32) -> Duration {
    (FIRST_PULL_WAIT * 2u32.saturating_pow(tries.saturating_sub(1).min(16))).min(MAX_PULL_WAIT)
}

/// What is to be done about an image before its container is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is there.
    Nothing,
    /// It is pulled.
    Pull,
    /// It is not there, and must not be pulled.
    Forbidden,
}

/// What a written policy asks for.
pub(crate) fn need(written: Option<PullPolicy>, present: bool) -> Need {
    match (written, present) {
        (Some(PullPolicy::Always), _) => Need::Pull,
        (_, true) => Need::Nothing,
        (Some(PullPolicy::Never), false) => Need::Forbidden,
        (_, false) => Need::Pull,
    }
}

/// Where nobody may pull it. Upstream says that it "is not present with pull policy of Never", and not what
/// helps.
pub(crate) fn absent(image: &str) -> String {
    format!("image {image:?} is not on this machine; load it with: cofferdam image load -i FILE")
}

/// An image that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) image: String,
    pub(crate) written: Option<PullPolicy>,
}

/// The images of `pod`, in order: of its containers, then of its volumes.
pub(crate) fn wanted(pod: &Pod) -> Vec<Wanted> {
    let containers = pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let of_containers = containers.map(|c| Wanted { image: c.image.clone(), written: c.image_pull_policy });
    let of_volumes = pod.spec.volumes.iter().filter_map(|volume| volume.image.as_ref());
    of_containers.chain(of_volumes.map(|i| Wanted { image: i.reference.clone(), written: i.pull_policy })).collect()
}

/// Whether `image` can be the name of an image: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`
/// (distribution's `reference/regexp.go`).
pub(crate) fn is_name(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[slash..].split_once(':') {
        Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
        None => (name, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let tag_is_good = |tag: &str| {
        tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || b".-".contains(&b))
    };
    let digest_is_good = |digest: &str| {
        let hex = |hex: &str| hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        digest.split_once(':').is_some_and(|(algorithm, value)| !algorithm.is_empty() && hex(value))
    };
    // The first part is a host where it looks like one; then it may have capitals and a port.
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    };
    let host_is_good = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().next_back()];
        ends.iter().all(|b| b.is_some_and(lower)) && part.bytes().all(|b| lower(b) || b"._-".contains(&b))
    };
    path.len() <= 255 && path.split('/').all(part) && host.is_none_or(host_is_good) && tag.is_none_or(tag_is_good) && digest.is_none_or(digest_is_good)
}

/// The kubelet's sentence on a name that can be none (`applyDefaultImageTag`).
pub(crate) fn no_name(image: &str) -> String {
    format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format")
}

/// Whether a registry, or the name itself, has answered for good: trying again changes nothing.
pub(crate) fn is_definite(err: &Error) -> bool {
    matches!(err, Error::NotFound(_) | Error::Invalid(_) | Error::Precondition(_) | Error::Handler(_))
}

/// The credentials of a pod's pull secrets as docker configurations, and the names of the secrets that
/// are not there or are none.
pub(crate) fn credentials(pod: &Pod, objects: &Objects) -> (Vec<Vec<u8>>, Vec<String>) {
    let (mut configs, mut missing) = (Vec::new(), Vec::new());
    let namespace = pod.metadata.namespace_or_default();
    for reference in &pod.spec.image_pull_secrets {
        match objects.secret(namespace, &reference.name).and_then(docker_config) {
            Some(config) => configs.push(config),
            None => missing.push(reference.name.clone()),
        }
    }
    (configs, missing)
}

/// The docker configuration in `secret`; the older form holds only the part below `auths`.
fn docker_config(secret: &Secret) -> Option<Vec<u8>> {
    let value = |key: &str| {
        let text = secret.string_data.get(key).map(|text| text.clone().into_bytes());
        text.or_else(|| base64::engine::general_purpose::STANDARD.decode(secret.data.get(key)?.trim()).ok())
    };
    match secret.kind.as_deref()? {
        "kubernetes.io/dockerconfigjson" => value(".dockerconfigjson"),
        "kubernetes.io/dockercfg" => {
            let auths: serde_json::Value = serde_json::from_slice(&value(".dockercfg")?).ok()?;
            serde_json::to_vec(&serde_json::json!({ "auths": auths })).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_policy_asks_for() {
        use PullPolicy::{Always, IfNotPresent, Never};
        for (written, present, expected) in [
            (None, true, Need::Nothing),
            (None, false, Need::Pull),
            (Some(Always), true, Need::Pull),
            (Some(Always), false, Need::Pull),
            (Some(IfNotPresent), true, Need::Nothing),
            (Some(IfNotPresent), false, Need::Pull),
            (Some(Never), true, Need::Nothing),
            (Some(Never), false, Need::Forbidden),
        ] {
            assert_eq!(need(written, present), expected, "{written:?} {present}");
        }
    }

    #[test]
    fn names_of_images() {
        let digest = format!("x@sha256:{}", "0".repeat(64));
        for (image, good) in [
            ("busybox", true),
            ("library/busybox:1.36", true),
            ("Registry.Example:5000/a/b-c_d.e:V1", true),
            ("[::1]:5000/x", true),
            ("localhost/x:latest", true),
            (digest.as_str(), true),
            ("", false),
            ("Busybox", false),
            ("a//b", false),
            ("-a", false),
            ("a:", false),
            ("a:b:c", false),
            ("a b", false),
            ("a@sha256:00", false),
            ("a;reboot", false),
            ("http://a/b", false),
        ] {
            assert_eq!(is_name(image), good, "{image}");
        }
    }

    #[test]
    fn waits_double_to_five_minutes() {
        let waits: Vec<_> = (1..8).chain([u32::MAX]).map(|tries| wait(tries).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn credentials_of_both_forms() {
        let secrets = json!([
            {"metadata": {"name": "new"}, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eyJhdXRocyI6e319"}},
            {"metadata": {"name": "old"}, "type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "{\"r.io\":{\"auth\":\"x\"}}"}},
            {"metadata": {"name": "opaque"}, "type": "Opaque", "data": {".dockerconfigjson": "eyJhdXRocyI6e319"}},
            {"metadata": {"name": "broken"}, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "%"}},
            {"metadata": {"name": "far", "namespace": "other"}, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}},
        ]);
        let objects = Objects::new(Vec::new(), serde_json::from_value(secrets).unwrap());
        let names: Vec<_> = ["new", "old", "opaque", "broken", "far", "none"].iter().map(|n| json!({"name": n})).collect();
        let pod: Pod = serde_json::from_value(json!({"spec": {"imagePullSecrets": names, "containers": []}})).unwrap();
        let (configs, missing) = credentials(&pod, &objects);
        let configs: Vec<_> = configs.into_iter().map(|c| String::from_utf8(c).unwrap()).collect();
        assert_eq!(configs, [r#"{"auths":{}}"#, r#"{"auths":{"r.io":{"auth":"x"}}}"#]);
        assert_eq!(missing, ["opaque", "broken", "far", "none"]);
    }
}
