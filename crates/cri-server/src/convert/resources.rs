//! Limits.

use super::{Result, Wrong};
use cofferdam_cri_api::v1;
use cofferdam_model::cri::LinuxResources;

/// Limits as the model has them. `field` is where they stand.
pub(crate) fn linux(field: &str, wire: &v1::LinuxContainerResources) -> Result<LinuxResources> {
    let natural = |name: &str, value: i64| u64::try_from(value).map_err(|_| Wrong::new(&format!("{field}.{name}"), "it is negative"));
    let oom = i32::try_from(wire.oom_score_adj).ok().filter(|v| (-1000..=1000).contains(v));
    let oom = oom.ok_or_else(|| Wrong::new(&format!("{field}.oom_score_adj"), "it is not within -1000 and 1000"))?;
    Ok(LinuxResources {
        cpu_shares: natural("cpu_shares", wire.cpu_shares)?,
        cpu_quota: wire.cpu_quota,
        cpu_period: natural("cpu_period", wire.cpu_period)?,
        memory_limit: wire.memory_limit_in_bytes,
        pids_limit: 0,
        oom_score_adj: Some(oom),
        cpuset_cpus: wire.cpuset_cpus.clone(),
        cpuset_mems: wire.cpuset_mems.clone(),
        // A limit of zero is what a kubelet sends for a size that the pod may not have.
        hugepages: wire.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
        memory_swap_limit: wire.memory_swap_limit_in_bytes,
        unified: wire.unified.clone(),
    })
}

/// As [`linux()`], for a change: what is zero stays as it is, so that the score does too.
pub(crate) fn change(field: &str, wire: &v1::LinuxContainerResources) -> Result<LinuxResources> {
    let mut resources = linux(field, wire)?;
    resources.oom_score_adj = resources.oom_score_adj.filter(|score| *score != 0);
    Ok(resources)
}

/// What both allow together; where one has no limit, neither has the sum.
pub(crate) fn sum(a: &LinuxResources, b: &LinuxResources) -> LinuxResources {
    let both = |a: i64, b: i64| if a > 0 && b > 0 { a.saturating_add(b) } else { 0 };
    let comparable = a.cpu_period == b.cpu_period && a.cpu_quota > 0 && b.cpu_quota > 0;
    LinuxResources {
        cpu_shares: if a.cpu_shares > 0 && b.cpu_shares > 0 {
            a.cpu_shares + b.cpu_shares
        } else {
            0
        },
        cpu_quota: if comparable { a.cpu_quota.saturating_add(b.cpu_quota) } else { 0 },
        cpu_period: if comparable { a.cpu_period } else { 0 },
        memory_limit: both(a.memory_limit, b.memory_limit),
        ..LinuxResources::default()
    }
}

/// Back to the wire.
pub(crate) fn to_wire(resources: &LinuxResources) -> v1::LinuxContainerResources {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: signed(resources.cpu_period),
        cpu_quota: resources.cpu_quota,
        cpu_shares: signed(resources.cpu_shares),
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj.unwrap_or_default().into(),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|(size, limit)| v1::HugepageLimit {
                page_size: size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_go_over_and_back() {
        let wire = v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            oom_score_adj: -997,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![v1::HugepageLimit {
                page_size: "2MB".into(),
                limit: 4 << 20,
            }],
            unified: [("memory.high".to_owned(), "1000".to_owned())].into(),
            memory_swap_limit_in_bytes: 128 << 20,
        };
        assert_eq!(to_wire(&linux("r", &wire).unwrap()), wire);
    }

    #[test]
    fn what_no_cgroup_takes_is_refused_by_its_name() {
        for (wire, field) in [
            (
                v1::LinuxContainerResources {
                    cpu_shares: -1,
                    ..Default::default()
                },
                "r.cpu_shares: ",
            ),
            (
                v1::LinuxContainerResources {
                    cpu_period: -1,
                    ..Default::default()
                },
                "r.cpu_period: ",
            ),
            (
                v1::LinuxContainerResources {
                    oom_score_adj: 1001,
                    ..Default::default()
                },
                "r.oom_score_adj: ",
            ),
            (
                v1::LinuxContainerResources {
                    oom_score_adj: i64::MIN,
                    ..Default::default()
                },
                "r.oom_score_adj: ",
            ),
        ] {
            assert!(linux("r", &wire).unwrap_err().0.starts_with(field));
        }
    }

    #[test]
    fn a_sum_has_a_limit_only_where_both_have_one() {
        let a = LinuxResources {
            memory_limit: 10,
            cpu_quota: 5,
            cpu_period: 100,
            cpu_shares: 2,
            ..Default::default()
        };
        let b = LinuxResources {
            memory_limit: 7,
            cpu_quota: 6,
            cpu_period: 100,
            cpu_shares: 3,
            ..Default::default()
        };
        let both = sum(&a, &b);
        assert_eq!(
            (both.memory_limit, both.cpu_quota, both.cpu_period, both.cpu_shares),
            (17, 11, 100, 5)
        );
        assert_eq!(sum(&a, &LinuxResources::default()), LinuxResources::default());
        assert_eq!(
            sum(
                &a,
                &LinuxResources {
                    cpu_quota: 6,
                    cpu_period: 50,
                    ..Default::default()
                }
            )
            .cpu_quota,
            0
        );
    }
}
