//! Lifecycle hooks (`pkg/kubelet/lifecycle/handlers.go`).
//!
//! Upstream's events on them say no more than "PostStartHook failed", as whoever reads events need not be who
//! may read what a pod says. Here both are one person, and the event says why.
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

/// Reason of the event on a hook that was asked again without TLS.
pub(crate) const REASON_FALLBACK: &str = "LifecycleHTTPFallback";

/// What came of a hook: good, with a sentence perhaps on how it was come by; else one phrase.
pub(crate) type Done = Result<Option<String>, String>;

/// The kubelet's sentence on a hook that failed, for the container's status. `pod` is its name as
/// [`pod_name`](crate::words::pod_name) writes it.
pub(crate) fn failed(hook: &LifecycleHandler, container: &str, pod: &str, why: &str) -> String {
    let what = match (&hook.exec, &hook.http_get, &hook.sleep) {
        (Some(exec), _, _) => format!("Exec lifecycle hook ([{}])", exec.command.join(" ")),
        (_, Some(get), _) => format!("HTTP lifecycle hook ({})", get.path.as_deref().unwrap_or_default()),
        (_, _, Some(sleep)) => format!("Sleep lifecycle hook ({})", sleep.seconds),
        _ => return format!("Cannot run handler: {why}"),
    };
    format!("{what} for Container {container:?} in Pod {pod:?} failed - error: {why}")
}

/// Runs `hook`.
pub(crate) fn run(hook: &LifecycleHandler, aim: &Aim, span: &Span<'_>) -> Done {
    if let Some(exec) = &hook.exec {
        return command(&exec.command, aim, span).map(|()| None);
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
                return Ok(None);
            }
            span.clock.wait(span.bell, seen, Some(until));
        }
    }
    Err("invalid handler: it names no action".into())
}

/// Anything but exit code 0 is an error, in the words of the kubelet and its CRI client.
fn command(command: &[String], aim: &Aim, span: &Span<'_>) -> Result<(), String> {
    let output = span
        .runtime
        .exec_sync(&aim.container, command, span.left())
        .map_err(|err| format!("{err}, message: \"\""))?;
    if output.exit_code == 0 {
        return Ok(());
    }
    let told = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_OUTPUT)]).into_owned();
    let (out, err) = (told(&output.stdout), told(&output.stderr));
    let (command, code) = (command.join(" "), output.exit_code);
    Err(format!("command '{command}' exited with {code}: {err}, message: {:?}", out + &err))
}

fn web(get: &Get, span: &Span<'_>) -> Done {
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
            // The kubelet's sentence.
            let host = plain.url.authority();
            let note = format!("request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded");
            fetched(fetch(&plain, &patience)).map(|()| Some(note))
        }
        said => fetched(said).map(|()| None),
    }
}

fn fetched<T>(said: Result<T, NoAnswer>) -> Result<(), String> {
    match said {
        Ok(_) | Err(NoAnswer::Body(_)) => Ok(()),
        Err(NoAnswer::Failed(why) | NoAnswer::PlainServer(why)) => Err(why),
    }
}
