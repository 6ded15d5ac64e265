//! What can be listed, and where the API has it.

use crate::{Error, PAGE};

/// A list of the Kubernetes API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing<'a> {
    /// Every node.
    Nodes,
    /// Pods of one namespace, or of all.
    Pods {
        /// None for all.
        namespace: Option<&'a str>,
    },
    /// Every runtime class.
    RuntimeClasses,
    /// Every namespace.
    Namespaces,
    /// Limit ranges of one namespace, or of all.
    LimitRanges {
        /// None for all.
        namespace: Option<&'a str>,
    },
    /// Resource quotas of one namespace, or of all.
    ResourceQuotas {
        /// None for all.
        namespace: Option<&'a str>,
    },
    /// Events about pods of one name.
    EventsOf {
        /// The pod's namespace.
        namespace: &'a str,
        /// The pod's name.
        pod: &'a str,
    },
}

impl Listing<'_> {
    pub(crate) fn api_version(&self) -> &'static str {
        match self {
            Self::RuntimeClasses => "node.k8s.io/v1",
            _ => "v1",
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Nodes => "Node",
            Self::Pods { .. } => "Pod",
            Self::RuntimeClasses => "RuntimeClass",
            Self::Namespaces => "Namespace",
            Self::LimitRanges { .. } => "LimitRange",
            Self::ResourceQuotas { .. } => "ResourceQuota",
            Self::EventsOf { .. } => "Event",
        }
    }

    fn resource(&self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods { .. } => "pods",
            Self::RuntimeClasses => "runtimeclasses",
            Self::Namespaces => "namespaces",
            Self::LimitRanges { .. } => "limitranges",
            Self::ResourceQuotas { .. } => "resourcequotas",
            Self::EventsOf { .. } => "events",
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Nodes | Self::RuntimeClasses | Self::Namespaces => None,
            Self::Pods { namespace } | Self::LimitRanges { namespace } | Self::ResourceQuotas { namespace } => *namespace,
            Self::EventsOf { namespace, .. } => Some(namespace),
        }
    }

    /// The list in a sentence.
    pub(crate) fn what(&self) -> String {
        match (self, self.namespace()) {
            (Self::EventsOf { namespace, pod }, _) => format!("the events of pod {namespace}/{pod}"),
            (_, Some(namespace)) => format!("the {} of namespace {namespace}", self.resource()),
            (_, None) => format!("the {}", self.resource()),
        }
    }

    /// Path and query of the page that `token` continues with.
    pub(crate) fn path(&self, token: Option<&str>) -> Result<String, Error> {
        let mut path = match self.api_version() {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        if let Some(namespace) = self.namespace() {
            path = format!("{path}/namespaces/{}", name(namespace)?);
        }
        path = format!("{path}/{}?limit={PAGE}", self.resource());
        if let Self::EventsOf { pod, .. } = self {
            path = format!(
                "{path}&fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3D{}",
                name(pod)?
            );
        }
        if let Some(token) = token {
            path = format!("{path}&continue={}", escape(token));
        }
        Ok(path)
    }
}

/// Path of one pod, and the pod in a sentence.
pub(crate) fn pod(namespace: &str, pod: &str) -> Result<(String, String), Error> {
    let path = format!("/api/v1/namespaces/{}/pods/{}", name(namespace)?, name(pod)?);
    Ok((path, format!("pod {namespace}/{pod}")))
}

/// A name that may stand in a path as it is: nothing in it can lead to another object.
fn name(name: &str) -> Result<&str, Error> {
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.len() <= 253
        && name.bytes().all(|c| letter(c) || c == b'-' || c == b'.')
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter);
    if good {
        Ok(name)
    } else {
        Err(Error::Name(name.chars().take(300).collect()))
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths() {
        for (listing, path) in [
            (Listing::Nodes, "/api/v1/nodes?limit=500"),
            (Listing::Pods { namespace: None }, "/api/v1/pods?limit=500"),
            (Listing::Pods { namespace: Some("a") }, "/api/v1/namespaces/a/pods?limit=500"),
            (Listing::RuntimeClasses, "/apis/node.k8s.io/v1/runtimeclasses?limit=500"),
            (Listing::Namespaces, "/api/v1/namespaces?limit=500"),
            (
                Listing::LimitRanges { namespace: Some("a") },
                "/api/v1/namespaces/a/limitranges?limit=500",
            ),
            (Listing::ResourceQuotas { namespace: None }, "/api/v1/resourcequotas?limit=500"),
            (
                Listing::EventsOf {
                    namespace: "a",
                    pod: "b.c",
                },
                "/api/v1/namespaces/a/events?limit=500&fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3Db.c",
            ),
        ] {
            assert_eq!(listing.path(None).unwrap(), path);
        }
        assert_eq!(
            Listing::Nodes.path(Some("e y+/=&é")).unwrap(),
            "/api/v1/nodes?limit=500&continue=e%20y%2B%2F%3D%26%C3%A9"
        );
    }

    #[test]
    fn names_lead_nowhere_else() {
        for bad in ["", ".", "..", "a/b", "a?b", "a%2f", "A", "-a", "a-", "a\n", "é", &"a".repeat(254)] {
            assert!(
                matches!(Listing::Pods { namespace: Some(bad) }.path(None), Err(Error::Name(_))),
                "{bad:?}"
            );
            assert!(
                matches!(Listing::EventsOf { namespace: "a", pod: bad }.path(None), Err(Error::Name(_))),
                "{bad:?}"
            );
            assert!(pod("a", bad).is_err() && pod(bad, "a").is_err(), "{bad:?}");
        }
        assert_eq!(pod("a", "b-1.c").unwrap().0, "/api/v1/namespaces/a/pods/b-1.c");
    }
}
