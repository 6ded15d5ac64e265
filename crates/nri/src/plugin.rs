//! One plugin: how it registers, is configured, told the state, and asked.

use crate::connection::{CallError, Connection, Handler, OnClose, UNIMPLEMENTED, lock};
use crate::wire::{self, Event};
use crate::{Error, Level, Options, Result};
use prost::Message;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// The version of NRI that plugins are told: the one whose messages these are.
const NRI_VERSION: &str = "v0.12.5";
/// All events.
const ALL: i32 = (1 << 14) - 1;
/// Longest part of the state that is told at once, bytes; room is left for what carries it.
const MAX_PART: usize = crate::frame::MAX_MESSAGE - (64 << 10);

/// Name of an event as errors and the wire have it.
pub(crate) fn name(event: Event) -> &'static str {
    match event {
        Event::Unknown => "Unknown",
        Event::RunPodSandbox => "RunPodSandbox",
        Event::StopPodSandbox => "StopPodSandbox",
        Event::RemovePodSandbox => "RemovePodSandbox",
        Event::CreateContainer => "CreateContainer",
        Event::PostCreateContainer => "PostCreateContainer",
        Event::StartContainer => "StartContainer",
        Event::PostStartContainer => "PostStartContainer",
        Event::UpdateContainer => "UpdateContainer",
        Event::PostUpdateContainer => "PostUpdateContainer",
        Event::StopContainer => "StopContainer",
        Event::RemoveContainer => "RemoveContainer",
        Event::UpdatePodSandbox => "UpdatePodSandbox",
        Event::PostUpdatePodSandbox => "PostUpdatePodSandbox",
        Event::ValidateContainerAdjustment => "ValidateContainerAdjustment",
    }
}

/// `NN` and `name` of a plugin's file `NN-name`.
pub(crate) fn parse_name(name: &str) -> Option<(&str, &str)> {
    let (idx, base) = name.split_once('-')?;
    (is_index(idx) && is_name(base)).then_some((idx, base))
}

fn is_index(idx: &str) -> bool {
    idx.len() == 2 && idx.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
}

/// Who a plugin is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) idx: String,
    pub(crate) base: String,
}

/// What a plugin wants, from its answer to Configure.
#[derive(Debug, Clone, Copy, Default)]
struct Terms {
    events: i32,
    policy: wire::FailurePolicy,
}

/// A plugin.
pub(crate) struct Plugin {
    pub(crate) connection: Arc<Connection>,
    identity: OnceLock<Identity>,
    terms: OnceLock<Terms>,
    /// Events for which it has no call of their own (plugins from before NRI 0.11), a bit each.
    old: AtomicU32,
    /// Whether it is asked now: one question at a time, as upstream's plugins expect.
    turn: Mutex<()>,
    /// Its process, where we started it.
    child: Mutex<Option<Child>>,
    request_timeout: Duration,
}

impl Plugin {
    /// A plugin at the other end of `socket`, which must register. With `identity` and `child` where we
    /// started it. `update` answers its UpdateContainers, `on_close` is called once it is gone.
    pub(crate) fn connect(
        socket: UnixStream,
        launched: Option<(Identity, Child)>,
        options: &Options,
        update: impl Fn(&Plugin, wire::UpdateContainersRequest) -> wire::UpdateContainersResponse + Send + 'static,
        on_close: OnClose,
    ) -> std::result::Result<Arc<Self>, String> {
        let (identity, child) = launched.unzip();
        let plugin = Arc::new(Self {
            connection: Connection::new(socket),
            identity: identity.map(OnceLock::from).unwrap_or_default(),
            terms: OnceLock::new(),
            old: AtomicU32::new(0),
            turn: Mutex::new(()),
            child: Mutex::new(child),
            request_timeout: options.request_timeout,
        });
        let (registered, registration) = mpsc::sync_channel(1);
        let weak = Arc::downgrade(&plugin);
        let handler: Handler = Box::new(move |method, payload| {
            let plugin = weak.upgrade().ok_or("the runtime has let the plugin go")?;
            if method == "RegisterPlugin" {
                let request = wire::RegisterPluginRequest::decode(payload).map_err(|e| e.to_string())?;
                let done = plugin.register(request);
                let _ = registered.try_send(done.clone());
                return done.map(|()| Vec::new());
            }
            if plugin.terms.get().is_none() {
                return Err("the plugin is not configured yet".to_owned());
            }
            let request = wire::UpdateContainersRequest::decode(payload).map_err(|e| e.to_string())?;
            Ok(update(&plugin, request).encode_to_vec())
        });
        let failed = |plugin: &Self, why: String| {
            plugin.end();
            why
        };
        plugin
            .connection
            .run(handler, on_close)
            .map_err(|e| failed(&plugin, e.to_string()))?;
        match registration.recv_timeout(options.registration_timeout) {
            Ok(Ok(())) => Ok(plugin),
            Ok(Err(why)) => Err(failed(&plugin, why)),
            Err(_) if plugin.connection.is_closed() => Err(failed(&plugin, "it closed its connection".to_owned())),
            Err(_) => {
                let waited = options.registration_timeout.as_millis();
                Err(failed(&plugin, format!("it did not register within {waited} ms")))
            }
        }
    }

    fn register(&self, request: wire::RegisterPluginRequest) -> std::result::Result<(), String> {
        // The name of one that we started is that of its file, whatever it says (as upstream).
        if self.identity.get().is_some() {
            return if self.terms.get().is_some() {
                Err("the plugin is registered".to_owned())
            } else {
                Ok(())
            };
        }
        let (idx, base) = (request.plugin_idx, request.plugin_name);
        if !is_name(&base) {
            return Err(format!("invalid plugin name: {:?}", base.chars().take(50).collect::<String>()));
        }
        if !is_index(&idx) {
            return Err(format!("invalid plugin index: {:?}", idx.chars().take(50).collect::<String>()));
        }
        self.identity
            .set(Identity { idx, base })
            .map_err(|_| "the plugin is registered".to_owned())
    }

    /// Tells its configuration and learns what it wants.
    pub(crate) fn configure(&self, options: &Options, config: String) -> std::result::Result<(), String> {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let request = wire::ConfigureRequest {
            config,
            runtime_name: options.runtime_name.clone(),
            runtime_version: options.runtime_version.clone(),
            registration_timeout: millis(options.registration_timeout),
            request_timeout: millis(options.request_timeout),
            nri_version: NRI_VERSION.to_owned(),
        };
        let answer: wire::ConfigureResponse = self
            .call("Configure", &request, self.deadline())
            .map_err(|e| e.why(self.request_timeout))?;
        if answer.events & !ALL != 0 {
            return Err(format!("invalid plugin events: {:#x}", answer.events));
        }
        let events = if answer.events == 0 { ALL } else { answer.events };
        let terms = Terms {
            events,
            policy: answer.failure_policy.unwrap_or_default(),
        };
        self.terms.set(terms).map_err(|_| "it is configured".to_owned())
    }

    /// Tells it all pods and containers, in parts where they are many; the updates that it wants.
    pub(crate) fn synchronize(
        &self,
        pods: Vec<wire::PodSandbox>,
        containers: Vec<wire::Container>,
    ) -> std::result::Result<Vec<wire::ContainerUpdate>, String> {
        let mut parts = split(pods, containers, MAX_PART).into_iter().peekable();
        while let Some(mut part) = parts.next() {
            part.more = parts.peek().is_some();
            let answer: wire::SynchronizeResponse = self
                .call("Synchronize", &part, self.deadline())
                .map_err(|e| e.why(self.request_timeout))?;
            if !part.more {
                return Ok(answer.update);
            }
            if !answer.update.is_empty() || !answer.more {
                return Err("plugin does not handle split sync requests".to_owned());
            }
        }
        Ok(Vec::new())
    }

    /// Its name, `NN-name`.
    pub(crate) fn name(&self) -> String {
        self.identity
            .get()
            .map_or_else(|| "unregistered".to_owned(), |i| format!("{}-{}", i.idx, i.base))
    }

    /// By which it comes in order.
    pub(crate) fn order(&self) -> (&str, &str) {
        self.identity.get().map_or(("", ""), |i| (i.idx.as_str(), i.base.as_str()))
    }

    /// Whether `required` means it.
    pub(crate) fn is(&self, required: &str) -> bool {
        self.identity
            .get()
            .is_some_and(|i| required == i.base || parse_name(required) == Some((&i.idx, &i.base)))
    }

    /// Whether it wants to be asked about an event.
    pub(crate) fn wants(&self, event: Event) -> bool {
        let events = self.terms.get().map_or(0, |terms| terms.events);
        events & (1 << (event as i32 - 1)) != 0
    }

    /// Asks it about an event; `None` where it does not want to be asked, or failed and may be done without.
    ///
    /// # Errors
    /// [`Error::Refused`] with its own words; [`Error::Failed`] where it does not answer and cannot be done
    /// without: `required`, or because it said so itself.
    pub(crate) fn ask<A: Message + Default>(
        &self,
        event: Event,
        request: &impl Message,
        old: Option<&wire::StateChangeEvent>,
        required: bool,
        options: &Options,
    ) -> Result<Option<A>> {
        if !self.wants(event) {
            return Ok(None);
        }
        // The wait for its turn is not its fault and does not count. Each question before is answered in time, or
        // the connection is closed before the turn passes on, and those that wait fail at once.
        let turn = lock(&self.turn);
        let error = match self.exchange(event, request, old) {
            Ok(answer) => return Ok(Some(answer)),
            Err(CallError::Status(status)) => {
                return Err(Error::Refused {
                    plugin: self.name(),
                    event: name(event),
                    reason: status.message,
                });
            }
            Err(error) => error,
        };
        let policy = self.terms.get().map(|terms| terms.policy).unwrap_or_default();
        let reason = error.why(self.request_timeout);
        // What is too long is nobody's fault but the container's; the plugin stays.
        let stays = match error {
            CallError::TooLong(_) => true,
            CallError::Timeout => policy.keep_connected,
            _ => false,
        };
        if !stays {
            self.connection.close();
        }
        drop(turn);
        if required || policy.fail_request {
            return Err(Error::Failed {
                plugin: self.name(),
                event: name(event),
                reason,
            });
        }
        let (plugin, event) = (self.name(), name(event));
        (options.log)(
            Level::Warn,
            &format!("NRI plugin {plugin:?} failed to handle {event}, going on without it: {reason}"),
        );
        Ok(None)
    }

    /// Asks; in the old way where the plugin has no other.
    fn exchange<A: Message + Default>(
        &self,
        event: Event,
        request: &impl Message,
        old: Option<&wire::StateChangeEvent>,
    ) -> std::result::Result<A, CallError> {
        let deadline = self.deadline();
        let bit = 1 << (event as u32);
        if let Some(old) = old {
            if self.old.load(Ordering::Relaxed) & bit == 0 {
                match self.call(name(event), request, deadline) {
                    Err(CallError::Status(status)) if status.code == UNIMPLEMENTED => {
                        self.old.fetch_or(bit, Ordering::Relaxed);
                    }
                    other => return other,
                }
            }
            return self.call::<wire::Empty>("StateChange", old, deadline).map(|_| A::default());
        }
        self.call(name(event), request, deadline)
    }

    fn call<A: Message + Default>(&self, method: &str, request: &impl Message, deadline: Instant) -> std::result::Result<A, CallError> {
        let answer = self.connection.call(method, request.encode_to_vec(), deadline)?;
        A::decode(answer.as_slice()).map_err(|e| CallError::Protocol(format!("its answer to {method}: {e}")))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.request_timeout
    }

    /// Ends its connection and, where we started it, its process.
    pub(crate) fn end(&self) {
        self.connection.close();
        if let Some(mut child) = lock(&self.child).take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The state in parts of at most `max` bytes, as far as one pod or container is not longer; at least one part.
fn split(pods: Vec<wire::PodSandbox>, containers: Vec<wire::Container>, max: usize) -> Vec<wire::SynchronizeRequest> {
    let mut parts = vec![wire::SynchronizeRequest::default()];
    let mut length = 0;
    let mut place = |size: usize, put: &mut dyn FnMut(&mut wire::SynchronizeRequest)| {
        // Tag and length of the field.
        let size = size + 8;
        if length > 0 && length + size > max {
            parts.push(wire::SynchronizeRequest::default());
            length = 0;
        }
        length += size;
        if let Some(part) = parts.last_mut() {
            put(part);
        }
    };
    for mut pod in pods {
        place(pod.encoded_len(), &mut |part| part.pods.push(std::mem::take(&mut pod)));
    }
    for mut container in containers {
        place(container.encoded_len(), &mut |part| {
            part.containers.push(std::mem::take(&mut container))
        });
    }
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_upstreams() {
        for (name, parts) in [
            ("10-logger", Some(("10", "logger"))),
            ("00-a-b_c.d+e", Some(("00", "a-b_c.d+e"))),
            ("1-logger", None),
            ("100-logger", None),
            ("ab-logger", None),
            ("10-", None),
            ("10-a/b", None),
            ("10", None),
        ] {
            assert_eq!(parse_name(name), parts, "{name}");
        }
    }

    #[test]
    fn the_state_is_told_in_parts() {
        let pods = |count: usize| {
            vec![
                wire::PodSandbox {
                    id: "x".repeat(100),
                    ..Default::default()
                };
                count
            ]
        };
        let containers = |count: usize| {
            vec![
                wire::Container {
                    id: "y".repeat(100),
                    ..Default::default()
                };
                count
            ]
        };
        for (p, c, max, expected) in [
            (0, 0, 1000, vec![(0, 0)]),
            (2, 3, 1000, vec![(2, 3)]),
            (2, 3, 230, vec![(2, 0), (0, 2), (0, 1)]),
            (1, 2, 10, vec![(1, 0), (0, 1), (0, 1)]),
        ] {
            let parts: Vec<_> = split(pods(p), containers(c), max)
                .iter()
                .map(|part| (part.pods.len(), part.containers.len()))
                .collect();
            assert_eq!(parts, expected, "{p} {c} {max}");
        }
    }
}
