//! The pause process: the first of a process id namespace that containers share, or of a root
//! container that only holds a sandbox. It reaps, and ends when it is told to.

use crate::sys;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run() {
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD];
    sys::block_signals(&signals);
    loop {
        // What ended before the signals were blocked is reaped here too.
        while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
        if matches!(sys::wait_signal(&signals), libc::SIGTERM | libc::SIGINT) {
            return;
        }
    }
}
