//! Whether a container's image may be used. No registry is asked yet, so an image must be on the
//! machine already.

use cofferdam_model::cri::{Result, Runtime};
use cofferdam_model::pod::{Container, PullPolicy};

/// Reason of a container whose image is not there (`pkg/kubelet/images/types.go`): by its policy
/// nobody may pull it, or nobody could.
pub fn reason(container: &Container) -> &'static str {
    if policy(container) == PullPolicy::Never { "ErrImageNeverPull" } else { "ErrImagePull" }
}

/// The policy that holds for `container`: the written one, else `Always` for the tag `latest` or no
/// tag, and `IfNotPresent` for other tags and digests (`pkg/apis/core/v1/defaults.go`).
pub fn policy(container: &Container) -> PullPolicy {
    container
        .image_pull_policy
        .unwrap_or(match tag(&container.image) {
            None | Some("latest") => PullPolicy::Always,
            Some(_) => PullPolicy::IfNotPresent,
        })
}

/// The tag of a reference; a digest counts as a tag of its own.
fn tag(image: &str) -> Option<&str> {
    if let Some((_, digest)) = image.split_once('@') {
        return Some(digest);
    }
    // A colon before the last slash belongs to a registry's port.
    image
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once(':'))
        .map(|(_, tag)| tag)
}

/// What is known of an image before its container is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there; a sentence where a policy cannot be honoured in full.
    Here(Option<String>),
    /// It is not: one sentence.
    Missing(String),
}

/// Looks for the image of `container`.
pub fn find(runtime: &dyn Runtime, container: &Container) -> Result<Found> {
    let image = &container.image;
    if runtime.image_status(image)?.is_none() {
        return Ok(Found::Missing(format!(
            "image {image:?} is not on this machine; load it with: cofferdam image load -i FILE"
        )));
    }
    // Only where it was asked for by name: with no tag the default is `Always` and nobody means it.
    let stale = (container.image_pull_policy == Some(PullPolicy::Always)).then(|| {
        format!("imagePullPolicy Always of container {:?}: this machine's copy of {image:?} is used, as no registry is asked yet", container.name)
    });
    Ok(Found::Here(stale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_policy_follows_the_tag() {
        for (image, expected) in [
            ("busybox", PullPolicy::Always),
            ("busybox:latest", PullPolicy::Always),
            ("busybox:1.36", PullPolicy::IfNotPresent),
            ("localhost:5000/busybox", PullPolicy::Always),
            ("localhost:5000/busybox:1", PullPolicy::IfNotPresent),
            ("busybox@sha256:00", PullPolicy::IfNotPresent),
            ("busybox:latest@sha256:00", PullPolicy::IfNotPresent),
        ] {
            let mut container = Container {
                image: image.into(),
                ..Container::default()
            };
            assert_eq!(policy(&container), expected, "{image}");
            container.image_pull_policy = Some(PullPolicy::Never);
            assert_eq!(policy(&container), PullPolicy::Never, "{image}");
        }
    }
}
