//! Seccomp profiles: from what a pod asks for to `linux.seccomp` of the OCI runtime specification.
//!
//! [`runtime_default`] is our own; [`localhost`] reads a profile of the machine's administrator, in
//! Docker's form (moby, `profiles/seccomp`), its extension by containers/common (errors by name), or
//! the specification's own form. Names that the machine's libseccomp does not know are left to the
//! runtime, which passes them over: they cannot be allowed by a filter that does not know them.

mod default;
mod errno;
mod profile;

pub use default::runtime_default;
pub use profile::{MAX_PROFILE, localhost};

use std::collections::BTreeSet;

/// What a profile is made for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// As `uname -m` has it.
    pub architecture: &'a str,
    /// First two numbers of the kernel's version.
    pub kernel: (u32, u32),
    /// Capabilities of the container, with `CAP_`.
    pub capabilities: &'a BTreeSet<String>,
}

/// The first two numbers of `uname -r`; zeros where there are none, with which no rule for a newer
/// kernel applies.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Each architecture as the kernel calls it, as Go does (profiles name that), as libseccomp does, and
/// the others whose programs it runs.
const ARCHITECTURES: [(&str, &str, &str, &[&str]); 8] = [
    ("x86_64", "amd64", "SCMP_ARCH_X86_64", &["SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    ("aarch64", "arm64", "SCMP_ARCH_AARCH64", &["SCMP_ARCH_ARM"]),
    ("arm", "arm", "SCMP_ARCH_ARM", &[]),
    ("i686", "386", "SCMP_ARCH_X86", &[]),
    ("ppc64le", "ppc64le", "SCMP_ARCH_PPC64LE", &[]),
    ("riscv64", "riscv64", "SCMP_ARCH_RISCV64", &[]),
    ("s390x", "s390x", "SCMP_ARCH_S390X", &["SCMP_ARCH_S390"]),
    ("loongarch64", "loong64", "SCMP_ARCH_LOONGARCH64", &[]),
];

fn known(architecture: &str) -> Option<&'static (&'static str, &'static str, &'static str, &'static [&'static str])> {
    ARCHITECTURES
        .iter()
        .find(|(name, ..)| *name == architecture || (*name == "arm" && architecture.starts_with("armv")))
}

/// libseccomp's names of an architecture and of those whose programs it runs. For one that is not known
/// empty: the runtime then takes its own, alone.
fn architectures(architecture: &str) -> Vec<&'static str> {
    known(architecture)
        .map(|(_, _, native, others)| std::iter::once(*native).chain(others.iter().copied()).collect())
        .unwrap_or_default()
}

/// Which argument of clone(2) has the flags.
fn clone_argument(architecture: &str) -> u32 {
    u32::from(architecture == "s390x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_by_two_numbers() {
        for (text, wanted) in [
            ("6.1.0-13-amd64", (6, 1)),
            ("4.8-rc3", (4, 8)),
            ("5", (5, 0)),
            ("", (0, 0)),
            ("x", (0, 0)),
        ] {
            assert_eq!(kernel_version(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_architecture_comes_with_those_it_runs() {
        assert_eq!(architectures("x86_64"), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        assert_eq!(architectures("armv7l"), ["SCMP_ARCH_ARM"]);
        assert_eq!(architectures("vax"), Vec::<&str>::new());
    }
}
