//! `cofferdam debug`: a container of its own image in a running pod (KEP-277), as `kubectl debug` has it.

use super::streams::{self, Streams};
use super::{attach, kept, pods};
use crate::args::{Global, Output};
use crate::owner::{Addition, Peer, PodName, PodNow};
use crate::settings::Settings;
use crate::{enclosure, show};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use cofferdam_decide::enclosure::{Enclosure, admit};
use cofferdam_decide::{Denied, ephemeral};
use cofferdam_engine::Engine;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::ContainerState;
use cofferdam_model::log::LogEntry;
use cofferdam_model::pod::{Capabilities, Container, EnvVar, EphemeralContainer, PullPolicy, SeccompProfile, SecurityContext};
use cofferdam_monitor::client::{AttachReader, AttachWriter};
use cofferdam_monitor::protocol::Frame;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam debug -it web --image busybox                     a shell of its own image beside the pod's containers
  cofferdam debug -it web --image busybox --target app        it sees the processes of container app
  cofferdam debug web --image busybox -c look -- sleep 1000   goes on by itself; see: cofferdam describe web
  cofferdam debug -i web --image busybox -q -- ps             what ps writes, and its exit code

The container stays with the pod and ends with it; it cannot be taken away or started again.
With -i the command ends with the container's exit code.";

/// How often a container that does not run yet is looked at.
const POLL: Duration = Duration::from_millis(30);
/// How often the log is looked at where nothing tells of new lines.
const LOG_POLL: Duration = Duration::from_millis(100);
/// Why a container does not run yet, where nothing is wrong.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Exit code of a container that went with its pod before its own was known: 128 + SIGKILL.
const KILLED: i32 = 137;

/// Options of `debug`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DebugArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
    pod: String,
    /// Image of the container
    #[arg(long, required = true)]
    image: String,
    /// When the image is pulled [default: Always for :latest, else IfNotPresent]
    #[arg(long, value_name = "POLICY", value_parser = pull_policy)]
    image_pull_policy: Option<PullPolicy>,
    /// Name of the container; one is made up where absent
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Container of the pod whose processes it sees
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// Environment variable; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<EnvVar>,
    /// What it may do beyond what any container may
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Keep standard input open, and attach
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Allocate a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Attach without standard input, too
    #[arg(long)]
    attach: bool,
    /// What follows -- are the arguments of the image's own command
    #[arg(long)]
    arguments_only: bool,
    /// Tell nothing of the container
    #[arg(short, long)]
    quiet: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t, conflicts_with_all = ["stdin", "attach"])]
    output: Output,
    /// Command and arguments; the image's where absent
    #[arg(last = true)]
    command: Vec<String>,
}

/// kubectl's profiles (`pkg/cmd/debug/profiles.go`), as far as they concern ephemeral containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// Nothing more.
    #[default]
    Legacy,
    /// Nothing more.
    Baseline,
    /// SYS_PTRACE.
    General,
    /// No root, no capability, and the runtime's seccomp profile.
    Restricted,
    /// NET_ADMIN and NET_RAW.
    Netadmin,
    /// All that a privileged container may.
    Sysadmin,
}

impl Profile {
    fn context(self) -> Option<SecurityContext> {
        let adding = |names: &[&str]| {
            Some(SecurityContext {
                capabilities: Some(Capabilities {
                    add: names.iter().map(|name| (*name).to_owned()).collect(),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            })
        };
        match self {
            Self::Legacy | Self::Baseline => None,
            Self::General => adding(&["SYS_PTRACE"]),
            Self::Netadmin => adding(&["NET_ADMIN", "NET_RAW"]),
            Self::Sysadmin => Some(SecurityContext {
                privileged: Some(true),
                ..SecurityContext::default()
            }),
            Self::Restricted => Some(SecurityContext {
                run_as_non_root: Some(true),
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    drop: vec!["ALL".into()],
                    ..Capabilities::default()
                }),
                seccomp_profile: Some(SeccompProfile {
                    kind: "RuntimeDefault".into(),
                    ..SeccompProfile::default()
                }),
                ..SecurityContext::default()
            }),
        }
    }
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    serde_json::from_value(json!(text)).map_err(|_| "it is Always, IfNotPresent or Never".to_owned())
}

fn variable(text: &str) -> Result<EnvVar, String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok(EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    })
}

/// Adds a container to a pod; where it is attached to, its exit code is ours.
pub(crate) fn debug(global: &Global, args: &DebugArgs) -> Result<u8> {
    let attach = args.stdin || args.attach;
    streams::insist_on_terminal(args.tty && attach)?;
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let found = kept::find(&engine, &args.pod)?;
    let new = container(args, &found.now)?;
    let name = new.container.name.clone();
    permitted(&found.now, &new, enclosure::of(&settings.loaded.table, &found.handler))?;
    if !args.quiet && args.output == Output::Table {
        // Where the container is attached to, standard output is its own.
        let tell = |line: String| if attach { show::tell(line) } else { show::say(line) };
        if args.container.is_none() {
            tell(format!("Defaulting debug container name to {name}."));
        }
        if let Some(target) = &args.target {
            tell(format!("Targeting container \"{target}\"."));
        }
    }
    let addition = Addition {
        pod: found.name.clone(),
        container: new.clone(),
    };
    found.peer.add(addition)?;
    if !attach {
        if args.output == Output::Json {
            show::json(&json!({"namespace": found.name.namespace, "pod": found.name.name, "container": new}))?;
        }
        return Ok(0);
    }
    converse(&engine, &found.peer, &found.name, &name, args)
}

/// The container that was asked for.
fn container(args: &DebugArgs, now: &PodNow) -> Result<EphemeralContainer> {
    let spec = &now.pod.spec;
    let own: Vec<String> = spec
        .containers
        .iter()
        .chain(&spec.init_containers)
        .map(|c| c.name.clone())
        .collect();
    if let Some(target) = args.target.as_ref().filter(|t| !own.contains(t)) {
        return Err(pods::no_container(&args.pod, target, &own));
    }
    let name = match &args.container {
        Some(name) => name.clone(),
        None => format!("debugger-{}", suffix()?),
    };
    let (command, arguments) = if args.arguments_only {
        (Vec::new(), args.command.clone())
    } else {
        (args.command.clone(), Vec::new())
    };
    Ok(EphemeralContainer {
        container: Container {
            name,
            image: args.image.clone(),
            image_pull_policy: args.image_pull_policy,
            command,
            args: arguments,
            env: args.env.clone(),
            stdin: args.stdin,
            // Its input ends with ours; a terminal can be attached to again.
            stdin_once: args.stdin && !args.tty,
            tty: args.tty,
            security_context: args.profile.context(),
            ..Container::default()
        },
        target_container_name: args.target.clone(),
    })
}

/// Refuses what no container may ask for, and what the pod's enclosure cannot do.
fn permitted(now: &PodNow, new: &EphemeralContainer, kind: Option<Enclosure>) -> Result<()> {
    ephemeral::validate(&now.pod, &now.ephemeral, new)?;
    let Some(kind) = kind else { return Ok(()) };
    let mut pod = now.pod.clone();
    let at = pod.spec.containers.len();
    pod.spec.containers.push(new.container.clone());
    match admit(&pod, kind) {
        Err(Denied::Forbidden {
            resource,
            name,
            mut reasons,
        }) => {
            // What the pod itself asks for was let in.
            let here = format!("spec.containers[{at}]");
            reasons.0.retain(|reason| reason.field.starts_with(&here));
            if reasons.0.is_empty() {
                return Ok(());
            }
            Err(Denied::Forbidden { resource, name, reasons }.into())
        }
        other => Ok(other?),
    }
}

/// Five letters and digits of those that Kubernetes makes names of (`apimachinery/pkg/util/rand`).
fn suffix() -> Result<String> {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = [0u8; 5];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("the kernel gives no random bytes for a name")?;
    Ok(bytes
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]))
        .collect())
}

/// Passes the streams on from the container's start to its end; its exit code.
fn converse(engine: &Engine, peer: &Peer, pod: &PodName, name: &str, args: &DebugArgs) -> Result<u8> {
    let id = until_begun(peer, pod, name)?;
    let mut log = Log::of(engine, pod, &id)?;
    // One that has ended already can be read of, and no more.
    if args.tty && has_ended(engine, &id) != Some(true) {
        log.print()?;
        if !args.quiet {
            show::tell("If you don't see a command prompt, try pressing enter.");
        }
        let wanted = Streams {
            stdin: args.stdin,
            tty: true,
            detachable: true,
        };
        match attach::to_container(engine, &id, wanted) {
            // It ended before it could be attached to.
            Err(_) if has_ended(engine, &id) == Some(true) => {}
            conversed => return conversed,
        }
    }
    let (told, attached) = match engine.attach_container(&id) {
        Ok(stream) => {
            if args.stdin {
                std::thread::Builder::new()
                    .name("stdin".into())
                    .spawn(move || pass_on(stream.writer))?;
            }
            (log.follow(stream.reader)?, true)
        }
        Err(_) if has_ended(engine, &id) == Some(true) => (None, false),
        Err(e) => return Err(e.into()),
    };
    // The monitor lets go of who reads too slowly; the log goes on.
    while told.is_none() && has_ended(engine, &id) == Some(false) {
        log.print()?;
        std::thread::sleep(LOG_POLL);
    }
    log.print()?;
    if told.is_none() && attached && args.stdin {
        bail!(
            "container \"{name}\" wrote faster than its monitor could pass on, and with that its input was cut off; \
             for much of both use: cofferdam exec -i"
        );
    }
    // A pod that is over has no container to ask.
    let status = engine.container_status(&id).ok().filter(|s| s.state == ContainerState::Exited);
    let code = status.map(|s| s.exit_code).or(told).filter(|code| *code >= 0);
    Ok(u8::try_from(code.unwrap_or(KILLED)).unwrap_or(u8::MAX))
}

/// Whether a container has ended; `None` where it is gone.
fn has_ended(engine: &Engine, id: &ContainerId) -> Option<bool> {
    Some(engine.container_status(id).ok()?.state == ContainerState::Exited)
}

/// Waits until a container runs or has run; one that cannot is an error that says why.
fn until_begun(peer: &Peer, pod: &PodName, name: &str) -> Result<ContainerId> {
    loop {
        let views = peer.look()?;
        let is_it = |v: &&Value| v["ended"] == false && pods::text(v, "namespace") == pod.namespace && pods::text(v, "name") == pod.name;
        let Some(view) = views.iter().find(is_it) else {
            bail!("pod \"{}\" ended before container \"{name}\" ran", pod.name);
        };
        let mut added = view["ephemeral"].as_array().into_iter().flatten();
        if let Some(state) = added.find(|c| c["name"] == name)
            && let Some(id) = begun(state, name)?
        {
            return Ok(id);
        }
        std::thread::sleep(POLL);
    }
}

/// The id of a container that runs or has run; `None` while it is on its way.
fn begun(view: &Value, name: &str) -> Result<Option<ContainerId>> {
    let (state, id) = (&view["state"], &view["id"]);
    let why = |state: &Value| match (pods::text(state, "reason"), pods::text(state, "message")) {
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    if let Some(end) = state.get("terminated").filter(|end| end["startedAt"].as_i64().unwrap_or(0) == 0) {
        bail!("container \"{name}\" did not start: {}", why(end));
    }
    if let Some(waiting) = state.get("waiting") {
        if ON_ITS_WAY.contains(&pods::text(waiting, "reason")) {
            return Ok(None);
        }
        bail!("container \"{name}\" does not start: {}", why(waiting));
    }
    Ok(Some(
        serde_json::from_value(id.clone()).context("the process that keeps the pod tells no id of the container")?,
    ))
}

/// Passes standard input on, until either side has enough.
fn pass_on(mut writer: AttachWriter) {
    let mut buffer = vec![0u8; 16 * 1024];
    let mut input = std::io::stdin().lock();
    loop {
        let read = input.read(&mut buffer).unwrap_or(0);
        let sent = if read == 0 {
            writer.close_stdin()
        } else {
            writer.stdin(&buffer[..read])
        };
        if read == 0 || sent.is_err() {
            return;
        }
    }
}

/// What a container writes, from its first line on. It is read from its log: who attaches to one that
/// runs already has missed what it wrote before.
struct Log {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The beginning of a line that is still being written.
    line: Vec<u8>,
}

impl Log {
    fn of(engine: &Engine, pod: &PodName, id: &ContainerId) -> Result<Self> {
        let sandbox = pods::find(engine, &format!("{}/{}", pod.namespace, pod.name))?;
        let container = engine.container_status(id)?;
        Ok(Self {
            path: sandbox.config.log_directory.join(&container.config.log_path),
            file: None,
            line: Vec::new(),
        })
    }

    /// Prints until the container ends, which `reader` tells: its code, where it is told.
    fn follow(&mut self, reader: AttachReader) -> Result<Option<i32>> {
        let (ticks, news) = sync_channel(1);
        // In a thread of its own, as the monitor drops who reads too slowly.
        let ended = std::thread::Builder::new().name("attached".into()).spawn(move || {
            for frame in reader.map_while(Result::ok) {
                match frame {
                    Frame::Exited(exit) => return Some(exit.code),
                    // One that is not taken yet stands for this one, too.
                    _ => drop(ticks.try_send(())),
                }
            }
            None
        })?;
        self.print_while(&news)?;
        Ok(ended.join().unwrap_or(None))
    }

    fn print_while(&mut self, news: &Receiver<()>) -> Result<()> {
        while !matches!(news.recv_timeout(LOG_POLL), Err(RecvTimeoutError::Disconnected)) {
            self.print()?;
        }
        self.print()
    }

    /// Prints what is new.
    fn print(&mut self) -> Result<()> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok().map(BufReader::new);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        while file.read_until(b'\n', &mut self.line)? > 0 && self.line.last() == Some(&b'\n') {
            if let Some(entry) = LogEntry::parse(&self.line) {
                put(&entry)?;
            }
            self.line.clear();
        }
        Ok(())
    }
}

fn put(entry: &LogEntry<'_>) -> Result<()> {
    let end: &[u8] = if entry.partial { b"" } else { b"\n" };
    let write = |out: &mut dyn Write| {
        out.write_all(entry.text)
            .and_then(|()| out.write_all(end))
            .and_then(|()| out.flush())
    };
    Ok(if entry.stderr {
        write(&mut std::io::stderr().lock())
    } else {
        write(&mut std::io::stdout().lock())
    }?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_container_that_cannot_start_is_told_with_its_reason() {
        let id = "0123456789abcdef0123456789abcdef";
        let of = |state: Value| begun(&json!({"name": "d", "id": id, "state": state}), "d");
        assert_eq!(
            of(json!({"waiting": {"reason": "ContainerCreating", "message": ""}})).unwrap(),
            None
        );
        for reason in ["ErrImagePull", "ImagePullBackOff", "CreateContainerError"] {
            let told = of(json!({"waiting": {"reason": reason, "message": "why"}}))
                .unwrap_err()
                .to_string();
            assert_eq!(told, format!("container \"d\" does not start: {reason}: why"));
        }
        let failed = of(json!({"terminated": {"reason": "StartError", "message": "no such file", "exitCode": 128, "startedAt": 0}}));
        assert_eq!(
            failed.unwrap_err().to_string(),
            "container \"d\" did not start: StartError: no such file"
        );
        assert_eq!(of(json!({"running": {"startedAt": 1}})).unwrap().unwrap().as_str(), id);
        assert_eq!(
            of(json!({"terminated": {"exitCode": 3, "startedAt": 1}}))
                .unwrap()
                .unwrap()
                .as_str(),
            id
        );
    }

    #[test]
    fn names_are_of_kubernetes_letters() {
        let name = suffix().unwrap();
        assert!(
            name.len() == 5 && name.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)),
            "{name}"
        );
        assert_ne!((suffix().unwrap(), suffix().unwrap()), (name.clone(), name));
    }

    #[test]
    fn variables_have_a_name_and_a_value() {
        let of = |text: &str| variable(text).map(|v| (v.name, v.value.unwrap_or_default()));
        assert_eq!(of("A=b=c,d"), Ok(("A".into(), "b=c,d".into())));
        assert_eq!(of("A="), Ok(("A".into(), String::new())));
        assert!(of("A").is_err());
    }

    #[test]
    fn what_an_enclosure_cannot_do_is_refused_of_the_added_container_alone() {
        let now: PodNow = serde_json::from_value(json!({
            "pod": {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "i"}]}}, "ephemeral": [],
        }))
        .unwrap();
        let new = |security: Value| -> EphemeralContainer {
            serde_json::from_value(json!({"name": "d", "image": "i", "securityContext": security})).unwrap()
        };
        let labelled = new(json!({"seLinuxOptions": {"level": "s0"}}));
        assert!(permitted(&now, &labelled, Some(Enclosure::SharedKernel)).is_ok());
        let refused = permitted(&now, &labelled, Some(Enclosure::Gvisor)).unwrap_err().to_string();
        assert!(refused.contains("gVisor cannot apply SELinux labels"), "{refused}");
        assert!(permitted(&now, &new(json!({})), Some(Enclosure::Gvisor)).is_ok());
        let mut has = now.clone();
        has.pod.spec.containers[0].security_context = labelled.container.security_context.clone();
        assert!(
            permitted(&has, &new(json!({})), Some(Enclosure::Gvisor)).is_ok(),
            "the pod was let in"
        );
    }
}
