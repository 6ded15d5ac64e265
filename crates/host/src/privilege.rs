//! What this process may do, and values clamped to it. A runtime that is asked for more than it
//! may set fails late and without a clear reason, so specs are written with clamped values.

use crate::{Error, Result, files};
/// Which limit.
pub use rustix::process::Resource;
use rustix::thread::CapabilitySet;

/// Capability to raise limits and lower oom scores; often missing inside containers and small VMs.
pub const SYS_RESOURCE: CapabilitySet = CapabilitySet::SYS_RESOURCE;

/// Whether we are user 0.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this thread has `capability` in effect.
pub fn has_capability(capability: CapabilitySet) -> Result<bool> {
    let sets =
        rustix::thread::capabilities(None).map_err(Error::system("read our capabilities"))?;
    Ok(sets.effective.contains(capability))
}

/// Whether this thread may give `name` (`NET_ADMIN` or `CAP_NET_ADMIN`) to a container: it is in
/// our bounding set. An unknown name is `None`.
pub fn bounding_has(name: &str) -> Result<Option<bool>> {
    let Some(capability) = CapabilitySet::from_name(name.strip_prefix("CAP_").unwrap_or(name))
    else {
        return Ok(None);
    };
    let status = files::read_text("/proc/self/status", 1 << 16)?;
    let bits = status
        .lines()
        .find_map(|l| l.strip_prefix("CapBnd:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .ok_or_else(|| Error::Malformed {
            path: "/proc/self/status".into(),
            reason: "it has no CapBnd line".to_owned(),
        })?;
    Ok(Some(bits & capability.bits() == capability.bits()))
}

/// Our own oom_score_adj, which children take over.
pub fn own_oom_score_adj() -> Result<i32> {
    let path = "/proc/self/oom_score_adj";
    files::read_text(path, 32)?
        .trim()
        .parse()
        .map_err(|_| Error::Malformed {
            path: path.into(),
            reason: "it holds no number".to_owned(),
        })
}

/// The oom_score_adj nearest to `wanted` that a child of ours can have: within -1000 to 1000, and
/// not below our own where we lack CAP_SYS_RESOURCE.
pub fn clamp_oom_score_adj(wanted: i32) -> Result<i32> {
    let floor = if has_capability(SYS_RESOURCE)? {
        -1000
    } else {
        own_oom_score_adj()?
    };
    Ok(clamp_score(wanted, floor))
}

fn clamp_score(wanted: i32, floor: i32) -> i32 {
    wanted.clamp(-1000, 1000).max(floor)
}

/// Soft and hard limit; `None` is unlimited.
pub type Limit = (Option<u64>, Option<u64>);

/// The limit nearest to `wanted` that a child of ours can have: where we lack CAP_SYS_RESOURCE,
/// the hard limit is at most our own; the soft one never exceeds the hard.
pub fn clamp_rlimit(resource: Resource, wanted: Limit) -> Result<Limit> {
    let own = rustix::process::getrlimit(resource).maximum;
    let ceiling = if has_capability(SYS_RESOURCE)? {
        None
    } else {
        own
    };
    Ok(clamp_limit(wanted, ceiling))
}

fn clamp_limit((soft, hard): Limit, ceiling: Option<u64>) -> Limit {
    let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let hard = least(hard, ceiling);
    (least(soft, hard), hard)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn scores_are_clamped() {
        for (wanted, floor, expected) in [
            (-998, 0, 0),
            (-998, -1000, -998),
            (2, 0, 2),
            (5000, 0, 1000),
            (-5000, -1000, -1000),
            (500, 900, 900),
        ] {
            assert_eq!(clamp_score(wanted, floor), expected, "{wanted} {floor}");
        }
        let own = own_oom_score_adj().unwrap();
        assert!(clamp_oom_score_adj(own).unwrap() == own);
    }

    #[test]
    fn limits_are_clamped() {
        for (wanted, ceiling, expected) in [
            (
                (Some(1024), Some(1 << 20)),
                Some(20000),
                (Some(1024), Some(20000)),
            ),
            (
                (Some(1 << 20), Some(1 << 20)),
                Some(20000),
                (Some(20000), Some(20000)),
            ),
            ((None, None), Some(7), (Some(7), Some(7))),
            ((None, None), None, (None, None)),
            ((None, Some(5)), None, (Some(5), Some(5))),
        ] {
            assert_eq!(clamp_limit(wanted, ceiling), expected);
        }
        let (_, hard) = clamp_rlimit(Resource::Nofile, (Some(1), Some(2))).unwrap();
        assert_eq!(hard, Some(2));
    }

    #[test]
    fn capability_names_are_known() {
        assert!(bounding_has("CAP_CHOWN").unwrap().is_some());
        assert_eq!(
            bounding_has("CHOWN").unwrap(),
            bounding_has("CAP_CHOWN").unwrap()
        );
        assert!(bounding_has("CAP_NONSENSE").unwrap().is_none());
    }
}
