//! `cofferdam exec`: a command in a container, with the caller's streams.

use super::streams::{self, End, Streams};
use crate::args::Global;
use crate::commands::pods;
use crate::settings::Settings;
use anyhow::{Result, bail};
use cofferdam_engine::Engine;
use cofferdam_engine::exec::Session;
use cofferdam_model::cri::ExecRequest;

/// Runs a command in a container; its exit code is ours.
pub(crate) fn exec(global: &Global, pod: &str, container: Option<&str>, stdin: bool, tty: bool, command: Vec<String>) -> Result<u8> {
    streams::insist_on_terminal(tty)?;
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let pod = pods::find(&engine, pod)?;
    let container = pods::container(&engine, &pod, container, true)?;
    let size = if tty { streams::window() } else { (0, 0) };
    let session = engine.exec(&container.id, &ExecRequest { command, tty, stdin }, size)?;
    let code = converse(&engine, &session, Streams { stdin, tty, detachable: false });
    engine.finish(&session);
    code
}

fn converse(engine: &Engine, session: &Session, wanted: Streams) -> Result<u8> {
    match streams::converse(engine.attach_session(session)?, wanted)? {
        End::Exited(exit) => Ok(u8::try_from(engine.session_code(session, &exit)?).unwrap_or(u8::MAX)),
        End::Detached => bail!("the command was left before it ended"),
    }
}
