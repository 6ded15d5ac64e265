//! Lifecycle hooks (`pkg/kubelet/lifecycle/handlers.go`).
//!
//! As upstream, a hook that asks a web server is content with any answer, and one that asks by HTTPS
//! asks again without it where the server does not speak it, leaving credentials away. The model has no
//! `tcpSocket` in hooks: upstream accepts it and then fails each one, a manifest with it is refused here.

use crate::clock::{Bell, Clock};
use crate::probe::http::{Get, NoAnswer, fetch};
use crate::probe::net::Patience;
use crate::probe::{Aim, request};
use cofferdam_model::cri::Runtime;
use cofferdam_model::pod::LifecycleHandler;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most that is told of what a command wrote, bytes.
const MAX_OUTPUT: usize = 1024;

/// How long a hook may run.
pub(crate) struct Span<'a> {
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) clock: &'a dyn Clock,
    /// Rings when `until` or `over` may have changed.
    pub(crate) bell: &'a Arc<Bell>,
    /// Its end, which may come nearer.
    pub(crate) until: &'a (dyn Fn() -> Duration + Sync),
    /// Whether nobody waits for it any more.
    pub(crate) over: &'a (dyn Fn() -> bool + Sync),
}

impl Span<'_> {
    fn left(&self) -> Duration {
        (self.until)().saturating_sub(self.clock.now())
    }

    fn is_over(&self) -> bool {
        (self.over)() || self.left().is_zero()
    }
}

/// Runs `hook`. An error is one phrase.
pub(crate) fn run(hook: &LifecycleHandler, aim: &Aim, span: &Span<'_>) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return command(&exec.command, aim, span);
    }
    if let Some(get) = &hook.http_get {
        return web(&request(get, aim, "kube-lifecycle/1.34")?, span);
    }
    if let Some(sleep) = &hook.sleep {
        let end = span.clock.now() + Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        loop {
            let seen = span.bell.count();
            let until = end.min((span.until)());
            if (span.over)() || span.clock.now() >= until {
                return Ok(());
            }
            span.clock.wait(span.bell, seen, Some(until));
        }
    }
    Err("invalid handler: it names no action".into())
}

/// Anything but exit code 0 is an error.
fn command(command: &[String], aim: &Aim, span: &Span<'_>) -> Result<(), String> {
    let output = span
        .runtime
        .exec_sync(&aim.container, command, span.left())
        .map_err(|err| err.to_string())?;
    if output.exit_code == 0 {
        return Ok(());
    }
    let told = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_OUTPUT)]).trim().to_owned();
    let (out, err) = (told(&output.stdout), told(&output.stderr));
    let words = if out.is_empty() {
        format!("{err:?}")
    } else {
        format!("{err:?}, and before that {out:?}")
    };
    Err(format!("command {command:?} ended with exit code {}: {words}", output.exit_code))
}

fn web(get: &Get, span: &Span<'_>) -> Result<(), String> {
    let over = || span.is_over();
    let now = Instant::now();
    let patience = Patience {
        until: now.checked_add(span.left()).unwrap_or(now),
        over: &over,
    };
    match fetch(get, &patience) {
        Err(NoAnswer::PlainServer(_)) => {
            let mut plain = get.clone();
            plain.url.https = false;
            plain.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Authorization"));
            fetched(fetch(&plain, &patience))
        }
        said => fetched(said),
    }
}

fn fetched<T>(said: Result<T, NoAnswer>) -> Result<(), String> {
    match said {
        Ok(_) | Err(NoAnswer::Body(_)) => Ok(()),
        Err(NoAnswer::Failed(why) | NoAnswer::PlainServer(why)) => Err(why),
    }
}
