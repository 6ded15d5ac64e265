//! `cofferdam attach`: the caller's streams as those of a running container.

use super::streams::{self, End, Streams};
use crate::args::Global;
use crate::commands::pods;
use crate::settings::Settings;
use crate::show;
use anyhow::{Result, bail};
use clap::Args;
use cofferdam_engine::Engine;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::{ContainerConfig, ContainerState};

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam attach web                what it writes from now on, until Ctrl-C
  cofferdam attach -it shell -c box   its terminal; Ctrl-P Ctrl-Q leaves it running

It ends with the container's exit code.";

/// Options of `attach`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AttachArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
    pod: String,
    /// Container; the first that runs where absent
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The container's terminal is this one
    #[arg(short = 't', long)]
    tty: bool,
}

/// Attaches to a container; its exit code is ours.
pub(crate) fn attach(global: &Global, args: &AttachArgs) -> Result<u8> {
    streams::insist_on_terminal(args.tty)?;
    let engine = Settings::read(global).insist()?.open()?;
    let pod = pods::find(&engine, &args.pod)?;
    let container = pods::container(&engine, &pod, args.container.as_deref(), true)?;
    if container.state != ContainerState::Running {
        bail!(
            "container \"{}\" does not run; see: cofferdam describe {}",
            container.config.name,
            args.pod
        );
    }
    let wanted = possible(
        &container.config,
        Streams {
            stdin: args.stdin,
            tty: args.tty,
            detachable: true,
        },
    )?;
    to_container(&engine, &container.id, wanted)
}

/// What of the wish the container was made for.
fn possible(config: &ContainerConfig, wanted: Streams) -> Result<Streams> {
    if wanted.stdin && !config.stdin {
        bail!(
            "container \"{}\" has no standard input; set stdin: true in its manifest, or leave -i away",
            config.name
        );
    }
    if wanted.tty && !config.tty {
        show::tell(format_args!(
            "cofferdam: container \"{}\" has no terminal, so -t is left away",
            config.name
        ));
    }
    Ok(Streams {
        tty: wanted.tty && config.tty,
        ..wanted
    })
}

/// Passes the streams on until the container ends or is left; its exit code.
pub(crate) fn to_container(engine: &Engine, id: &ContainerId, wanted: Streams) -> Result<u8> {
    let mut stream = engine.attach_container(id)?;
    if wanted.tty {
        // One who attaches sees nothing until the program draws again: a new size makes it do so.
        let (rows, cols) = streams::window();
        if rows > 0 {
            stream.writer.resize(rows, cols)?;
        }
    }
    match streams::converse(stream, wanted)? {
        End::Exited(_) => {
            let code = engine.container_status(id).map_or(0, |status| status.exit_code);
            Ok(u8::try_from(code).unwrap_or(u8::MAX))
        }
        End::Detached => {
            show::tell("\r\ncofferdam: left; the container goes on");
            Ok(0)
        }
    }
}
