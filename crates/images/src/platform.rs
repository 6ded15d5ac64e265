//! Platforms: which of an image's variants this machine runs.

use serde::{Deserialize, Serialize};

/// Operating system and processor, in Go's names as the OCI image specification has them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7` of `arm`, `v3` of `amd64`, …; empty where it says none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or = |text: &str| {
            if text.is_empty() {
                "unknown".to_owned()
            } else {
                // It is a stranger's, and it is shown.
                text.replace(char::is_control, "?")
            }
        };
        write!(f, "{}/{}", or(&self.os), or(&self.architecture))?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", or(&self.variant))
        }
    }
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let uname = rustix::system::uname();
        let machine = uname.machine().to_string_lossy();
        Self {
            os: "linux".into(),
            architecture: go_architecture(&machine).into(),
            variant: String::new(),
        }
    }

    /// How well an image of this platform fits a machine of `host`, smaller is better; `None`
    /// where it does not run. The 32-bit sister runs too, as containerd has it. A field that the
    /// image leaves empty fits: old builders left them.
    pub(crate) fn rank(&self, host: &Self) -> Option<u8> {
        if !self.os.is_empty() && self.os != host.os {
            return None;
        }
        match (self.architecture.as_str(), host.architecture.as_str()) {
            ("", _) => Some(3),
            (image, machine) if image == machine => Some(u8::from(!matches!(
                (image, self.variant.as_str()),
                (_, "") | ("amd64", "v1") | ("arm64", "v8")
            ))),
            ("386", "amd64") | ("arm", "arm64") => Some(4),
            _ => None,
        }
    }
}

/// Go's name of a `uname -m`.
fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "386",
        "armv6l" | "armv7l" | "armv8l" => "arm",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform {
            os: next(),
            architecture: next(),
            variant: next(),
        }
    }

    #[test]
    fn a_machine_runs_its_own_and_its_sister() {
        for (image, machine, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64/v1", "linux/amd64", Some(0)),
            ("linux/amd64/v3", "linux/amd64", Some(1)),
            ("linux/386", "linux/amd64", Some(4)),
            ("linux/amd64", "linux/386", None),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/amd64", None),
            ("windows/amd64", "linux/amd64", None),
            ("unknown/unknown", "linux/amd64", None),
            ("", "linux/amd64", Some(3)),
        ] {
            assert_eq!(
                platform(image).rank(&platform(machine)),
                rank,
                "{image} on {machine}"
            );
        }
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
        assert_eq!(go_architecture("x86_64"), "amd64");
    }
}
