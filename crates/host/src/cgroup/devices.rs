//! Which devices the processes of a group may use.

use super::group::write;
use super::{Controller, Group, Mode};
use crate::Result;

/// Kind of a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Made, read and written.
    All,
    /// Made with mknod(2) alone.
    Make,
    /// Only these.
    Only {
        /// Opened for reading.
        read: bool,
        /// Opened for writing.
        write: bool,
        /// Made with mknod(2).
        make: bool,
    },
}

impl Access {
    /// From a text of `r`, `w` and `m`; `None` where it holds anything else, or nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
        let has = |c| text.contains(c);
        plain.then(|| Self::Only { read: has('r'), write: has('w'), make: has('m') })
    }

    /// Reading, writing, making.
    pub(super) fn parts(self) -> (bool, bool, bool) {
        match self {
            Self::All => (true, true, true),
            Self::Make => (false, false, true),
            Self::Only { read, write, make } => (read, write, make),
        }
    }
}

/// Devices that are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Kind.
    pub kind: DeviceKind,
    /// Major number; `None` for all.
    pub major: Option<u32>,
    /// Minor number; `None` for all.
    pub minor: Option<u32>,
    /// What may be done.
    pub access: Access,
}

const fn char_device(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        kind: DeviceKind::Char,
        major: Some(major),
        minor,
        access: Access::All,
    }
}

const fn make_any(kind: DeviceKind) -> DeviceRule {
    DeviceRule {
        kind,
        major: None,
        minor: None,
        access: Access::Make,
    }
}

/// The default devices of the OCI runtime specification (`config-linux.md`, "Default Devices"),
/// and the making of any: what cannot be opened does no harm.
pub const DEFAULT_DEVICES: [DeviceRule; 11] = [
    make_any(DeviceKind::Char),
    make_any(DeviceKind::Block),
    char_device(1, Some(3)), // null
    char_device(1, Some(5)), // zero
    char_device(1, Some(7)), // full
    char_device(1, Some(8)), // random
    char_device(1, Some(9)), // urandom
    char_device(5, Some(0)), // tty
    char_device(5, Some(1)), // console
    char_device(5, Some(2)), // ptmx
    char_device(136, None),  // pts/*
];

impl DeviceRule {
    /// The line of v1's `devices.allow`.
    fn v1_line(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let (read, write, make) = self.access.parts();
        let access: String = [(read, 'r'), (write, 'w'), (make, 'm')].iter().filter(|(has, _)| *has).map(|(_, c)| c).collect();
        format!(
            "{kind} {}:{} {access}",
            number(self.major),
            number(self.minor)
        )
    }
}

impl Group {
    /// Denies all devices but these. On v1 the kernel refuses this once the group has children: set
    /// it first; children take it over.
    pub fn deny_devices_but(&self, rules: &[DeviceRule]) -> Result<()> {
        if self.cgroups.mode() == Mode::V2 {
            return super::devices_v2::attach(&self.directories()[0], rules);
        }
        write(
            &self.file(Controller::Devices, "devices.deny", "denying devices")?,
            "a",
        )?;
        let allow = self.file(Controller::Devices, "devices.allow", "allowing devices")?;
        rules
            .iter()
            .try_for_each(|rule| write(&allow, &rule.v1_line()))
    }

    /// Allows all devices that the parent may use: for privileged containers.
    pub fn allow_all_devices(&self) -> Result<()> {
        if self.cgroups.mode() == Mode::V2 {
            return super::devices_v2::detach_all(&self.directories()[0]);
        }
        write(
            &self.file(Controller::Devices, "devices.allow", "allowing devices")?,
            "a",
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn access_is_read_from_letters() {
        for (text, line) in [("rwm", "c 10:229 rwm"), ("wr", "c 10:229 rw"), ("m", "c 10:229 m")] {
            let rule = DeviceRule { access: Access::parse(text).unwrap(), ..char_device(10, Some(229)) };
            assert_eq!(rule.v1_line(), line);
        }
        assert_eq!((Access::parse(""), Access::parse("rx")), (None, None));
    }

    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let lines: Vec<_> = DEFAULT_DEVICES.iter().map(DeviceRule::v1_line).collect();
        assert_eq!(
            lines,
            [
                "c *:* m",
                "b *:* m",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:1 rwm",
                "c 5:2 rwm",
                "c 136:* rwm"
            ]
        );
    }
}
