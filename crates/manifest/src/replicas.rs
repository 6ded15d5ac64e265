//! The pods of a Deployment.

use cofferdam_model::objects::Deployment;
use cofferdam_model::pod::Pod;

/// Most pods that one Deployment can ask for on one machine.
pub const MAX_REPLICAS: i32 = 1000;

/// Letters of generated names (`k8s.io/apimachinery/pkg/util/rand`): none that can spell a word.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many texts of five such letters there are.
const SUFFIXES: u64 = 27_u64.pow(5);
/// Longest generated name, so that it is a host name too.
const MAX_NAME: usize = 63;

/// The pods that a Deployment asks for, at most [`MAX_REPLICAS`]; one where it says nothing.
///
/// Names are `<deployment>-<5>-<5>`, as a ReplicaSet would give, but always the same ones: the first
/// five letters follow from namespace and name, the second from the replica's index too, and no two
/// replicas share them. A long name is cut in front of them.
pub fn pods_of(deployment: &Deployment) -> Vec<Pod> {
    let replicas = deployment.spec.replicas.unwrap_or(1).clamp(0, MAX_REPLICAS);
    (0..u64::from(replicas.unsigned_abs()))
        .map(|i| pod(deployment, i))
        .collect()
}

fn pod(deployment: &Deployment, index: u64) -> Pod {
    let meta = &deployment.metadata;
    let seed = fnv(
        fnv(FNV, meta.namespace_or_default()),
        &format!("/{}", meta.name),
    );
    // An odd number that 3 does not divide has no factor in common with 27^5, so that the products
    // are different for every index below it.
    let replica = (seed >> 32).wrapping_add(index.wrapping_mul(7_654_321)) % SUFFIXES;
    let base = meta
        .name
        .get(..MAX_NAME - 12)
        .unwrap_or(&meta.name)
        .trim_end_matches(['-', '.']);
    let mut metadata = deployment.spec.template.metadata.clone();
    metadata.name = format!("{base}-{}-{}", letters(seed % SUFFIXES), letters(replica));
    metadata.generate_name = None;
    metadata.namespace.clone_from(&meta.namespace);
    Pod {
        metadata,
        spec: deployment.spec.template.spec.clone(),
    }
}

fn letters(mut number: u64) -> String {
    let mut text = String::with_capacity(5);
    for _ in 0..5 {
        text.push(char::from(LETTERS[(number % 27) as usize]));
        number /= 27;
    }
    text
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, which is the same on every machine and in every release, other than the standard hasher.
fn fnv(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::collections::BTreeSet;

    fn deployment(name: &str, replicas: Option<i32>) -> Deployment {
        let mut d = Deployment::default();
        d.metadata.name = name.to_owned();
        d.metadata.namespace = Some("shop".to_owned());
        d.spec.replicas = replicas;
        d.spec
            .template
            .metadata
            .labels
            .insert("app".to_owned(), "web".to_owned());
        d.spec.template.spec.hostname = Some("h".to_owned());
        d
    }

    #[test]
    fn pods_have_the_template_and_the_deployments_namespace() {
        let pods = pods_of(&deployment("web", Some(2)));
        assert_eq!(pods.len(), 2);
        assert_eq!(pods[0].metadata.labels["app"], "web");
        assert_eq!(pods[0].metadata.namespace.as_deref(), Some("shop"));
        assert_eq!(pods[1].spec.hostname.as_deref(), Some("h"));
    }

    #[test]
    fn names_are_the_same_in_every_release() {
        let names: Vec<_> = pods_of(&deployment("web", Some(2)))
            .into_iter()
            .map(|p| p.metadata.name)
            .collect();
        assert_eq!(names, ["web-fsh4h-pcr72", "web-fsh4h-44mll"]);
    }

    #[test]
    fn names_are_unique_and_valid() {
        for name in [
            "web",
            &"a-".repeat(126),
            "a.b",
            &format!("{}.x", "b".repeat(50)),
        ] {
            let pods = pods_of(&deployment(name, Some(MAX_REPLICAS)));
            let names: BTreeSet<_> = pods.iter().map(|p| p.metadata.name.as_str()).collect();
            assert_eq!(names.len(), 1000);
            for name in names {
                assert_eq!(
                    crate::format::Format::Subdomain.broken_by(name),
                    None,
                    "{name}"
                );
                assert!(name.len() <= MAX_NAME, "{name}");
            }
        }
        let other = &pods_of(&deployment("web2", None))[0];
        assert_ne!(
            other.metadata.name[5..],
            pods_of(&deployment("web", None))[0].metadata.name[4..]
        );
    }

    #[test]
    fn replicas_count() {
        for (replicas, pods) in [
            (None, 1),
            (Some(0), 0),
            (Some(-3), 0),
            (Some(3), 3),
            (Some(i32::MAX), 1000),
        ] {
            assert_eq!(
                pods_of(&deployment("web", replicas)).len(),
                pods,
                "{replicas:?}"
            );
        }
    }
}
