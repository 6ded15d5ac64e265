//! Ids of user namespaces: which of the machine's a pod gets.
//!
//! As the kubelet has it (KEP-127, `pkg/kubelet/userns`): each pod has 65536 ids of its own, in ranges
//! that begin at multiples of 65536, the machine's own first range left out; where `/etc/subuid` and
//! `/etc/subgid` have a line for the user `kubelet`, both the same, ranges come from that one.

use crate::spec::IdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Ids that each pod gets.
pub const IDS_PER_POD: u32 = 65_536;
/// Most pods that a range of the kubelet's own choice is for (its `maxPods`).
pub const MAX_PODS: u32 = 110;
/// Most that is read of `/etc/subuid` and `/etc/subgid`, bytes.
pub const MAX_FILE: u64 = 1 << 20;
/// The user whose line in `/etc/subuid` is looked for.
const OWNER: &str = "kubelet";

/// The ids of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// First id, of users and of groups alike.
    pub first: u32,
    /// How many.
    #[serde(default = "ids_per_pod")]
    pub count: u32,
}

fn ids_per_pod() -> u32 {
    IDS_PER_POD
}

impl IdRange {
    /// A range of the usual length.
    pub fn of(first: u32) -> Self {
        Self { first, count: IDS_PER_POD }
    }

    /// A range that somebody else chose: a kubelet knows what of the machine's ids is nobody's, and may
    /// give a part of those below 65536, or fewer than a pod of ours gets.
    ///
    /// # Errors
    /// One sentence where it has the machine's own root, from whom a user namespace is to keep pods, or no
    /// id, or more than there are.
    pub fn chosen(first: u32, count: u32) -> Result<Self, String> {
        let said = format!("the user namespace's {count} ids from {first}");
        if count == 0 {
            return Err(format!("{said} are too few; give it at least one"));
        }
        if first == 0 {
            return Err(format!("{said} have the machine's own root among them; begin at 1 or above"));
        }
        // The last number stands for no id at all.
        if first.checked_add(count).is_none() {
            return Err(format!("{said} are more than there are"));
        }
        Ok(Self { first, count })
    }

    /// Whether both have an id in common.
    pub fn overlaps(self, other: Self) -> bool {
        let end = |range: Self| u64::from(range.first) + u64::from(range.count);
        u64::from(self.first) < end(other) && u64::from(other.first) < end(self)
    }

    /// As OCI specs and `/proc/<pid>/uid_map` have it.
    pub fn map(self) -> IdMap {
        IdMap {
            host: self.first,
            size: self.count,
        }
    }

    /// The id on the machine of an id inside; `None` where the pod has no such id.
    pub fn on_machine(self, inside: u32) -> Option<u32> {
        (inside < self.count).then(|| self.first + inside)
    }

    /// The line of `/proc/<pid>/uid_map` and `gid_map`.
    pub fn line(self) -> String {
        format!("0 {} {}", self.first, self.count)
    }
}

/// The ids that pods may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    first: u32,
    pods: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            first: IDS_PER_POD,
            pods: MAX_PODS,
        }
    }
}

impl Pool {
    /// The pool of a machine with these files; an absent file is empty text. Where a line is there that
    /// cannot be honoured, nothing is guessed: the error says what is wrong with it.
    pub fn of(subuid: &str, subgid: &str) -> Result<Self, String> {
        let users = line_of(subuid, "/etc/subuid")?;
        let groups = line_of(subgid, "/etc/subgid")?;
        let Some((first, count)) = users else {
            return if groups.is_some() { Err(unlike()) } else { Ok(Self::default()) };
        };
        if users != groups {
            return Err(unlike());
        }
        if first < IDS_PER_POD || first % IDS_PER_POD != 0 || count < IDS_PER_POD || count % IDS_PER_POD != 0 {
            return Err(format!(
                "/etc/subuid gives \"{OWNER}\" {count} ids from {first}; both numbers must be multiples of {IDS_PER_POD}, and not 0"
            ));
        }
        if first.checked_add(count - 1).is_none() {
            return Err(format!(
                "/etc/subuid gives \"{OWNER}\" {count} ids from {first}, which is more than there are"
            ));
        }
        Ok(Self {
            first,
            pods: count / IDS_PER_POD,
        })
    }

    /// The first range that is not taken; the error says that there is none left.
    pub fn next(&self, taken: &BTreeSet<IdRange>) -> Result<IdRange, String> {
        (0..self.pods)
            .map(|at| IdRange::of(self.first + at * IDS_PER_POD))
            .find(|range| !taken.iter().any(|t| t.overlaps(*range)))
            .ok_or_else(|| format!("all {} ranges of user ids are in use by pods with hostUsers: false; end one, or give \"{OWNER}\" more in /etc/subuid and /etc/subgid", self.pods))
    }
}

fn unlike() -> String {
    format!("/etc/subuid and /etc/subgid give \"{OWNER}\" different ids; make both lines the same")
}

/// `name:first:count` of the owner (subuid(5)).
fn line_of(text: &str, file: &str) -> Result<Option<(u32, u32)>, String> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(OWNER)?.strip_prefix(':'));
    let Some(rest) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(format!("{file} has more than one line for \"{OWNER}\"; leave one"));
    }
    let numbers = rest
        .split_once(':')
        .and_then(|(first, count)| Some((first.trim().parse().ok()?, count.trim().parse().ok()?)));
    numbers
        .map(Some)
        .ok_or_else(|| format!("{file}: the line of \"{OWNER}\" must be {OWNER}:FIRST:COUNT, not {rest:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_given_from_the_bottom_and_given_again() {
        let pool = Pool::default();
        let mut taken = BTreeSet::new();
        for wanted in [65_536, 131_072, 196_608] {
            let range = pool.next(&taken).unwrap();
            assert_eq!(range.first, wanted);
            taken.insert(range);
        }
        taken.remove(&IdRange::of(131_072));
        assert_eq!(pool.next(&taken).unwrap().first, 131_072);
        let full = Pool::of("kubelet:65536:131072\n", "kubelet:65536:131072\n").unwrap();
        let taken = [65_536, 131_072].map(IdRange::of).into();
        assert!(full.next(&taken).unwrap_err().starts_with("all 2 ranges of user ids are in use"));
    }

    #[test]
    fn the_kubelets_lines_are_honoured_or_refused() {
        let rows = [
            ("", "", Ok(65_536)),
            ("root:100000:65536\nuser:1:1\n", "root:100000:65536\n", Ok(65_536)),
            ("kubelet:655360:65536\n", "a:1:2\nkubelet:655360:65536", Ok(655_360)),
            ("kubelets:1:1\n", "", Ok(65_536)),
            ("kubelet:655360:65536\n", "", Err("different ids")),
            ("", "kubelet:655360:65536\n", Err("different ids")),
            ("kubelet:655360:65536\n", "kubelet:655360:131072\n", Err("different ids")),
            ("kubelet:100000:65536\n", "kubelet:100000:65536\n", Err("multiples of 65536")),
            ("kubelet:0:65536\n", "kubelet:0:65536\n", Err("multiples of 65536")),
            ("kubelet:65536:0\n", "kubelet:65536:0\n", Err("multiples of 65536")),
            (
                "kubelet:4294901760:131072\n",
                "kubelet:4294901760:131072\n",
                Err("more than there are"),
            ),
            ("kubelet:65536\n", "", Err("must be kubelet:FIRST:COUNT")),
            ("kubelet:-1:65536\n", "", Err("must be kubelet:FIRST:COUNT")),
            ("kubelet:65536:65536\nkubelet:131072:65536\n", "", Err("more than one line")),
        ];
        for (users, groups, wanted) in rows {
            let found = Pool::of(users, groups).map(|p| p.first);
            match wanted {
                Ok(first) => assert_eq!(found.unwrap(), first, "{users:?}"),
                Err(part) => assert!(found.clone().unwrap_err().contains(part), "{users:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_range_that_was_chosen_is_honoured_or_refused() {
        for (first, count) in [(100_000, 131_072), (1000, 100_000), (65_536, 1)] {
            assert_eq!(IdRange::chosen(first, count), Ok(IdRange { first, count }));
        }
        for (first, count, part) in [(65_536, 0, "too few"), (0, 65_536, "own root"), (u32::MAX, 65_536, "more than there are")] {
            assert!(IdRange::chosen(first, count).unwrap_err().contains(part), "{first} {count}");
        }
        let wide = IdRange { first: 65_537, count: 131_072 };
        assert_eq!(Pool::default().next(&[wide].into()).unwrap().first, 262_144, "not one that overlaps");
    }

    #[test]
    fn ids_inside_are_counted_from_the_first() {
        let range = IdRange::of(131_072);
        assert_eq!(
            (range.on_machine(0), range.on_machine(65_535), range.on_machine(65_536)),
            (Some(131_072), Some(196_607), None)
        );
        assert_eq!(range.line(), "0 131072 65536");
    }
}
