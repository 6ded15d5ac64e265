//! The monitor process: `cofferdam-monitor` with a start request on standard input (see
//! [`cofferdam_monitor::protocol::Start`]), or `cofferdam-monitor pause`.
//!
//! One thread, blocking nowhere but where a child is between fork and exec.

mod awaited;
mod conn;
mod console;
mod cri_log;
mod json;
mod life;
mod monitor;
mod mounts;
mod pause;
mod process;
mod pump;
mod requests;
mod spawn;
mod start;
mod stdin;
mod streams;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|mode| mode == "pause") {
        pause::run();
        return ExitCode::SUCCESS;
    }
    // The reason was given in the answer to the start request.
    match start::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
