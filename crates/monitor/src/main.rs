//! The monitor process: `cofferdam-monitor` with a start request on standard input (see
//! [`cofferdam_monitor::protocol::Start`]), `cofferdam-monitor pause`, or `cofferdam-monitor canary`.
//!
//! One thread, blocking nowhere but where a child is between fork and exec.

mod awaited;
mod canary;
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
mod users;
mod within;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(mode) if mode == "pause" => {
            pause::run();
            return ExitCode::SUCCESS;
        }
        Some(mode) if mode == "canary" => return canary::run(),
        _ => {}
    }
    // The reason was given in the answer to the start request.
    match start::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
