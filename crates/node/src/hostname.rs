//! A pod's names (`pkg/kubelet/kubelet_pods.go`, `GeneratePodHostNameAndDomain`;
//! `pkg/kubelet/util/util_linux.go`, `GetNodenameForKernel`).

use cofferdam_model::pod::Pod;

/// The domain of a cluster that was given no other name.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Longest host name, bytes (`HOST_NAME_MAX` less one, as upstream).
const MAX_HOSTNAME: usize = 63;
/// Longest full name that the kernel takes as a host name, bytes (`__NEW_UTS_LEN`).
const MAX_FQDN: usize = 64;

/// A pod's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// What `hostname` says; empty in the machine's network, where it is the machine's.
    pub hostname: String,
    /// The full name; empty where it has none.
    pub fqdn: String,
}

/// The names of `pod`; an error is one sentence.
pub(crate) fn names(pod: &Pod) -> Result<Names, String> {
    let spec = &pod.spec;
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let (own, subdomain) = (given(&spec.hostname), given(&spec.subdomain));
    for (what, name) in [("Hostname", &own), ("Subdomain", &subdomain)] {
        if let Some(why) = name.as_deref().and_then(not_a_label) {
            return Err(format!(
                "pod {what} {:?} is not a valid DNS label: {why}",
                name.as_deref().unwrap_or_default()
            ));
        }
    }
    if spec.host_network {
        return Ok(Names::default());
    }
    let hostname = truncated(own.as_deref().unwrap_or(&pod.metadata.name));
    let Some(subdomain) = subdomain else {
        return Ok(Names {
            hostname,
            fqdn: String::new(),
        });
    };
    let fqdn = format!(
        "{hostname}.{subdomain}.{}.svc.{CLUSTER_DOMAIN}",
        pod.metadata.namespace_or_default()
    );
    if spec.set_hostname_as_fqdn != Some(true) {
        return Ok(Names { hostname, fqdn });
    }
    match fqdn.len() {
        0..=MAX_FQDN => Ok(Names {
            hostname: fqdn.clone(),
            fqdn,
        }),
        long => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_FQDN} characters is the max, {long} characters requested)"
        )),
    }
}

/// Cut to what Linux takes, without `-` or `.` at the end (`truncatePodHostnameIfNeeded`).
fn truncated(name: &str) -> String {
    let mut end = name.len().min(MAX_HOSTNAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == name.len() {
        name.to_owned()
    } else {
        name[..end].trim_end_matches(['-', '.']).to_owned()
    }
}

/// Why `text` is not a label of RFC 1123, in upstream's words (`IsDNS1123Label`).
fn not_a_label(text: &str) -> Option<&'static str> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    if text.len() > MAX_HOSTNAME {
        Some("must be no more than 63 characters")
    } else if !edges || !text.bytes().all(|b| inner(b) || b == b'-') {
        Some(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_pods() {
        let long = "a".repeat(64);
        let rows = [
            ("the pod's", "web", json!({}), Ok(("web", ""))),
            ("its own", "web", json!({"hostname": "h"}), Ok(("h", ""))),
            ("a long one is cut", &("a".repeat(62) + "-b"), json!({}), Ok((&long[..62], ""))),
            ("at 63", &long, json!({}), Ok((&long[..63], ""))),
            (
                "with a domain",
                "web",
                json!({"subdomain": "s"}),
                Ok(("web", "web.s.ns.svc.cluster.local")),
            ),
            (
                "the full one",
                "web",
                json!({"subdomain": "s", "setHostnameAsFQDN": true}),
                Ok(("web.s.ns.svc.cluster.local", "web.s.ns.svc.cluster.local")),
            ),
            ("no domain, no full one", "web", json!({"setHostnameAsFQDN": true}), Ok(("web", ""))),
            (
                "the machine's",
                "web",
                json!({"hostNetwork": true, "subdomain": "s", "hostname": "h"}),
                Ok(("", "")),
            ),
            (
                "too long a full one",
                &long,
                json!({"subdomain": "s", "setHostnameAsFQDN": true}),
                Err(
                    "FQDN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.s.ns.svc.cluster.local is too long (64 characters is the max, 86 characters requested)",
                ),
            ),
            (
                "no label",
                "web",
                json!({"hostname": "a.b"}),
                Err("pod Hostname \"a.b\" is not a valid DNS label: a lowercase RFC 1123 label must"),
            ),
            (
                "no line of a hosts file",
                "web",
                json!({"subdomain": "a\n1.1.1.1"}),
                Err("pod Subdomain \"a\\n1.1.1.1\" is not a valid DNS label"),
            ),
            (
                "too long",
                "web",
                json!({"hostname": long}),
                Err("must be no more than 63 characters"),
            ),
        ];
        for (what, name, spec, expected) in rows {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec})).unwrap();
            match (names(&pod), expected) {
                (Ok(found), Ok((hostname, fqdn))) => assert_eq!((found.hostname.as_str(), found.fqdn.as_str()), (hostname, fqdn), "{what}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{what}: {found}"),
                (found, _) => unreachable!("{what}: {found:?}"),
            }
        }
    }
}
