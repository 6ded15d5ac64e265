//! From what a file says to the driver that runs it.

use crate::place::one_line;
use crate::table::{Binary, Driver, Flavor, Handler, OciHandler, ShimHandler, VmHandler};
use std::path::{Component, Path, PathBuf};

/// What containerd's `runtime_type` means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RuntimeType {
    /// `io.containerd.runtime.v1.linux`: runc, or the `runtime_engine`.
    LinuxV1,
    /// `io.containerd.runc.v1` and `.v2`: runc, or `BinaryName`.
    Runc,
    /// `io.containerd.runsc.v1`: runsc.
    Runsc,
    /// `io.containerd.kata*.vN`: a virtual machine; the shim's name.
    Kata(Binary),
    /// Any other: the shim's name.
    Shim(Binary),
}

/// Reads a `runtime_type`. The shim's name is made as containerd makes it: `containerd-shim-` and the
/// last two parts (containerd, `pkg/shim/util.go`); a path is the shim itself.
pub(crate) fn runtime_type(text: &str) -> Result<RuntimeType, String> {
    let wrong = || {
        format!(
            "runtime_type {text:?} is not one of containerd's; write io.containerd.runc.v2 or the like"
        )
    };
    if text.starts_with('/') {
        return Ok(RuntimeType::Shim(binary(text)?));
    }
    match text {
        "io.containerd.runtime.v1.linux" => return Ok(RuntimeType::LinuxV1),
        "io.containerd.runc.v1" | "io.containerd.runc.v2" => return Ok(RuntimeType::Runc),
        "io.containerd.runsc.v1" => return Ok(RuntimeType::Runsc),
        _ => {}
    }
    let (rest, version) = text.rsplit_once('.').ok_or_else(wrong)?;
    let (prefix, name) = rest.rsplit_once('.').ok_or_else(wrong)?;
    let is_version = version
        .strip_prefix('v')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if prefix.is_empty() || name.is_empty() || !is_version {
        return Err(wrong());
    }
    let shim = binary(&format!("containerd-shim-{name}-{version}")).map_err(|_| wrong())?;
    let kata = prefix == "io.containerd" && name.starts_with("kata");
    Ok(if kata {
        RuntimeType::Kata(shim)
    } else {
        RuntimeType::Shim(shim)
    })
}

/// Reads the name or path of a program.
pub(crate) fn binary(text: &str) -> Result<Binary, String> {
    let wrong = |what: &str| {
        Err(format!(
            "the binary {text:?} {what}; write an absolute path or a bare name"
        ))
    };
    if text.is_empty() || text.len() > 4096 || text.chars().any(char::is_control) {
        return wrong("cannot be a file");
    }
    if !text.contains('/') {
        let odd = text.starts_with(['.', '-']);
        return if odd {
            wrong("cannot be searched in $PATH")
        } else {
            Ok(Binary::Search(text.to_owned()))
        };
    }
    if text.split('/').any(|part| part == "..") || text.ends_with('/') {
        return wrong("is not a plain path of a file");
    }
    absolute(text).map(Binary::Path)
}

/// Reads an absolute path.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, String> {
    let fits = text.starts_with('/') && text.len() <= 4096 && !text.chars().any(char::is_control);
    if fits {
        Ok(PathBuf::from(text))
    } else {
        Err(format!("{text:?} must be an absolute path"))
    }
}

/// The driver for a program that a file calls an OCI runtime, and what to warn of. Kata's program and
/// containerd's shims do not have the OCI runtime's command line, whatever the file calls them. A
/// program whose name tells nothing has the ways of `otherwise`.
pub(crate) fn oci(
    binary: Binary,
    root: Option<PathBuf>,
    otherwise: Flavor,
) -> (Driver, Option<String>) {
    let file = binary.file_name();
    if is_kin(&file, "kata-runtime") || is_kin(&file, "containerd-shim-kata") {
        return (
            Driver::Vm(VmHandler {
                binary: Some(binary),
                root,
                config_file: None,
            }),
            None,
        );
    }
    if file.starts_with("containerd-shim-") {
        return (
            Driver::Shim(ShimHandler {
                binary,
                config_file: None,
            }),
            None,
        );
    }
    let flavors = [
        ("runsc", Flavor::Runsc),
        ("runc", Flavor::Runc),
        ("crun", Flavor::Crun),
        ("youki", Flavor::Youki),
    ];
    let flavor = flavors
        .into_iter()
        .find(|(name, _)| is_kin(&file, name))
        .map(|(_, flavor)| flavor);
    let warning = flavor.is_none().then(|| {
        format!(
            "the program {:?} is not one that is known, and is driven like {otherwise}",
            one_line(&file)
        )
    });
    let flavor = flavor.unwrap_or(otherwise);
    (
        Driver::Oci(OciHandler {
            flavor,
            binary,
            root,
            flags: Default::default(),
            config_file: None,
        }),
        warning,
    )
}

/// Whether `file` is `name` or begins with it as a word: `crun-1.8` is kin of `crun`, `runcvm` not of `runc`.
fn is_kin(file: &str, name: &str) -> bool {
    file.strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}

/// Makes a handler unusable whose driver does not exist (yet).
pub(crate) fn refuse_unbuilt(handler: &mut Handler) {
    let driver = match handler.driver {
        Driver::Oci(_) => return,
        Driver::Vm(_) => "VM",
        Driver::Shim(_) => "shim",
        Driver::Unknown if handler.unusable.is_some() => return,
        Driver::Unknown => {
            return handler.refuse(format!(
                "handler {:?} names nothing that can be run",
                handler.name.as_str()
            ));
        }
    };
    let reason = format!(
        "handler {:?} needs the {driver} driver, which is not built yet",
        handler.name.as_str()
    );
    handler.refuse(reason);
}

/// `path` beside the file `by`, when it is not absolute; without `.` and `..`, so that one file has
/// one name.
pub(crate) fn beside(by: &Path, path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in by
        .parent()
        .unwrap_or(Path::new("/"))
        .join(path)
        .components()
    {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn runtime_types() {
        let search = |name: &str| Binary::Search(name.to_owned());
        for (text, meant) in [
            ("io.containerd.runtime.v1.linux", RuntimeType::LinuxV1),
            ("io.containerd.runc.v1", RuntimeType::Runc),
            ("io.containerd.runc.v2", RuntimeType::Runc),
            ("io.containerd.runsc.v1", RuntimeType::Runsc),
            (
                "io.containerd.kata.v2",
                RuntimeType::Kata(search("containerd-shim-kata-v2")),
            ),
            (
                "io.containerd.kata-qemu.v2",
                RuntimeType::Kata(search("containerd-shim-kata-qemu-v2")),
            ),
            (
                "com.example.kata.v2",
                RuntimeType::Shim(search("containerd-shim-kata-v2")),
            ),
            (
                "io.containerd.wasmtime.v1",
                RuntimeType::Shim(search("containerd-shim-wasmtime-v1")),
            ),
            (
                "io.containerd.runc.v3",
                RuntimeType::Shim(search("containerd-shim-runc-v3")),
            ),
            (
                "/opt/containerd-shim-x",
                RuntimeType::Shim(Binary::Path("/opt/containerd-shim-x".into())),
            ),
        ] {
            assert_eq!(runtime_type(text).unwrap(), meant, "{text}");
        }
        for bad in [
            "oci",
            "",
            "io.containerd.x",
            ".x.v1",
            "io..v1",
            "io.containerd.../../sh.v1",
            "io.containerd.a/b.v1",
            "/",
        ] {
            assert!(runtime_type(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_file_name_tells_the_flavor() {
        let flavor = |path: &str| match oci(binary(path).unwrap(), None, Flavor::Runc) {
            (Driver::Oci(oci), warning) => (Some(oci.flavor), warning.is_some()),
            _ => (None, false),
        };
        for (path, expected) in [
            ("runc", (Some(Flavor::Runc), false)),
            ("/usr/sbin/runc-1.1", (Some(Flavor::Runc), false)),
            ("/usr/bin/crun", (Some(Flavor::Crun), false)),
            ("/usr/local/bin/runsc", (Some(Flavor::Runsc), false)),
            ("/opt/youki.amd64", (Some(Flavor::Youki), false)),
            (
                "/usr/bin/nvidia-container-runtime",
                (Some(Flavor::Runc), true),
            ),
            ("/usr/bin/runcvm", (Some(Flavor::Runc), true)),
            ("/usr/bin/kata-runtime", (None, false)),
            ("/usr/bin/containerd-shim-kata-v2", (None, false)),
            ("/usr/bin/containerd-shim-runsc-v1", (None, false)),
        ] {
            assert_eq!(flavor(path), expected, "{path}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-x",
            "bin/runc",
            "./runc",
            "/usr/../runc",
            "/usr/bin/",
            "a\nb",
        ] {
            assert!(binary(bad).is_err(), "{bad:?}");
        }
    }
}
