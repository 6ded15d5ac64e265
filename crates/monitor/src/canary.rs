//! The canary: proves from inside a sandbox that processes can fork, pipe and wait there, which a
//! runtime that only survives `sleep` cannot do.

use crate::sys;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::process::ExitCode;

/// What the canary ends with where all went well: a code that nothing else ends with by chance.
pub(crate) const WELL: u8 = 86;
/// How many children it forks, one after another and all at once.
const CHILDREN: u8 = 12;

/// Forks children that write through pipes, reads what they wrote, and waits for each.
pub(crate) fn run() -> ExitCode {
    let all = one_by_one() && all_at_once();
    if all { ExitCode::from(WELL) } else { ExitCode::FAILURE }
}

fn one_by_one() -> bool {
    (1..=CHILDREN).all(|number| child(number).is_some_and(|(pid, reader)| ended_as(number, pid, &reader)))
}

fn all_at_once() -> bool {
    let children: Vec<_> = (1..=CHILDREN).map(|number| (number, child(number))).collect();
    children.into_iter().all(|(number, child)| child.is_some_and(|(pid, reader)| ended_as(number, pid, &reader)))
}

fn child(number: u8) -> Option<(Pid, std::os::fd::OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe().ok()?;
    match sys::fork().ok()? {
        None => {
            let written = rustix::io::write(&writer, &[number]) == Ok(1);
            sys::exit_now(if written { i32::from(number) } else { 100 })
        }
        Some(pid) => Pid::from_raw(pid).map(|pid| (pid, reader)),
    }
}

fn ended_as(number: u8, pid: Pid, reader: &std::os::fd::OwnedFd) -> bool {
    let mut byte = [0u8; 1];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(reader, &mut byte));
    let waited = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()));
    let code = waited.ok().flatten().and_then(|(_, status)| status.exit_status());
    read == Ok(1) && byte == [number] && code == Some(i32::from(number))
}
