//! `cofferdam cp`: files into a container and out of it, by the tar that is in it.
//!
//! - [`inward`]: an archive made here, unpacked by the container's own tar, in its enclosure
//! - [`outward`]: an archive made by the container's tar, which is hostile, unpacked here

mod inward;
mod outward;
mod pipe;

use crate::args::Global;
use crate::commands::pods;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_engine::Engine;
use cofferdam_engine::exec::Session;
use cofferdam_model::cri::{ContainerStatus, ExecRequest};
use std::path::PathBuf;
use std::str::FromStr;

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam cp ./site web:/srv/site          into the first container of pod web
  cofferdam cp web:/var/log/app.log . -c app
  cofferdam cp default/db:/dump ./dump

The container needs tar, as with kubectl. Links are not copied out of a container, and are told.";

/// Options of `cp`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CopyArgs {
    /// What: a path here, or [NAMESPACE/]POD:PATH
    from: Place,
    /// Where to: a path here, or [NAMESPACE/]POD:PATH
    to: Place,
    /// Container; the first where absent
    #[arg(short, long)]
    container: Option<String>,
    /// Neither owners nor permissions are kept in the container
    #[arg(long)]
    no_preserve: bool,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    Pod { pod: String, path: String },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            // A path here may have a colon, where it begins as no pod's name can.
            Some((pod, path)) if !pod.starts_with(['/', '.']) => match (pod, path) {
                ("", _) => Err(format!("{text:?} names no pod; write it as [NAMESPACE/]POD:PATH")),
                (_, "") => Err(format!("{text:?} names no path; write it as [NAMESPACE/]POD:PATH")),
                _ => Ok(Self::Pod { pod: pod.to_owned(), path: path.to_owned() }),
            },
            _ if text.is_empty() => Err("an empty path names nothing".into()),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// Copies.
pub(crate) fn copy(global: &Global, args: &CopyArgs) -> Result<u8> {
    let open = |pod: &str| -> Result<Inside> {
        let engine = Settings::read(global).insist()?.open()?;
        let sandbox = pods::find(&engine, pod)?;
        let container = pods::container(&engine, &sandbox, args.container.as_deref(), true)?;
        Ok(Inside { engine, container })
    };
    match (&args.from, &args.to) {
        (Place::Here(from), Place::Pod { pod, path }) => inward::copy(&open(pod)?, from, path, args.no_preserve)?,
        (Place::Pod { pod, path }, Place::Here(to)) => outward::copy(&open(pod)?, path, to)?,
        (Place::Here(_), Place::Here(_)) => bail!("both paths are here; one must be of a pod: [NAMESPACE/]POD:PATH"),
        _ => bail!("both paths are of pods; copy through a path here"),
    }
    Ok(0)
}

/// The container that is copied from or to.
struct Inside {
    engine: std::sync::Arc<Engine>,
    container: ContainerStatus,
}

impl Inside {
    /// Starts the container's tar.
    fn tar(&self, args: &[&str], stdin: bool) -> Result<Session> {
        let command = ["tar"].iter().chain(args).map(|a| (*a).to_owned()).collect();
        let request = ExecRequest { command, tty: false, stdin };
        self.engine.exec(&self.container.id, &request, (0, 0)).with_context(|| {
            format!("tar cannot be run in container \"{}\", and files are copied with it", self.container.config.name)
        })
    }

    /// Whether a path of the container is a directory.
    fn is_dir(&self, path: &str) -> Result<bool> {
        let command = ["test", "-d", path].map(str::to_owned);
        let answer = self.engine.exec_sync(&self.container.id, &command, std::time::Duration::from_secs(10));
        Ok(answer.is_ok_and(|a| a.exit_code == 0))
    }
}

/// A path of a container as its folder and its last part; `/` is `.` of itself.
fn parts(path: &str) -> (String, String) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        _ if path.is_empty() => ("/".into(), ".".into()),
        Some(("", name)) => ("/".into(), name.into()),
        Some((dir, name)) => (dir.into(), name.into()),
        None => (".".into(), path.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_place_is_here_or_in_a_pod() {
        let pod = |pod: &str, path: &str| Place::Pod { pod: pod.into(), path: path.into() };
        for (text, wanted) in [
            ("web:/srv", pod("web", "/srv")),
            ("default/web:srv", pod("default/web", "srv")),
            ("web:/a:b", pod("web", "/a:b")),
            ("./a:b", Place::Here("./a:b".into())),
            ("/tmp/a:b", Place::Here("/tmp/a:b".into())),
            ("dir", Place::Here("dir".into())),
        ] {
            assert_eq!(text.parse::<Place>().unwrap(), wanted);
        }
        for bad in ["", ":x", "web:"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_has_a_folder_and_a_name() {
        for (path, dir, name) in [("/a/b", "/a", "b"), ("/a/", "/", "a"), ("a", ".", "a"), ("/", "/", "."), ("a/b/", "a", "b")] {
            assert_eq!(parts(path), (dir.to_owned(), name.to_owned()), "{path}");
        }
    }
}
