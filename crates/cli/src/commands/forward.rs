//! `cofferdam port-forward`: ports of this machine that lead into a pod, whatever its enclosure.

use crate::args::Global;
use crate::commands::pods;
use crate::enclosure;
use crate::settings::Settings;
use crate::show;
use anyhow::{Context, Result, bail};
use clap::Args;
use cofferdam_decide::enclosure::Enclosure;
use cofferdam_engine::Engine;
use cofferdam_model::PodId;
use cofferdam_model::cri::SandboxState;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam port-forward web 8080:80       127.0.0.1:8080 leads to the pod's port 80
  cofferdam port-forward web 80 443        the same ports on both sides
  cofferdam port-forward web :80           a free port, which is printed
  cofferdam port-forward --address 0.0.0.0 web 8080:80";

/// Most connections at a time; further ones wait.
const MAX_CONNECTIONS: usize = 256;
/// How often it is looked whether the pod is still there.
const LOOK: Duration = Duration::from_secs(1);
/// How long a gVisor pod must be silent, after the other side has said all, before it is told so.
const SILENCE: Duration = Duration::from_secs(1);
/// Stack of a thread that copies.
const STACK: usize = 128 * 1024;

/// Options of `port-forward`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ForwardArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
    pod: String,
    /// [LOCAL:]REMOTE; :REMOTE for a free local port
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<Ports>,
    /// Addresses to listen on, or localhost
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
}

/// A port of this machine and one of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| match text.parse::<u16>() {
            Ok(0) | Err(_) => Err(format!("{text:?} is not a port; use 1 to 65535")),
            Ok(port) => Ok(port),
        };
        let (local, remote) = match text.split_once(':') {
            None => (number(text)?, number(text)?),
            Some(("", remote)) => (0, number(remote)?),
            Some((local, remote)) => (number(local)?, number(remote)?),
        };
        Ok(Self { local, remote })
    }
}

/// Forwards until it is interrupted or the pod is gone.
pub(crate) fn forward(global: &Global, args: &ForwardArgs) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let pod = pods::find(&engine, &args.pod)?;
    let ends_both = enclosure::of(&settings.loaded.table, &pod.handler) == Some(Enclosure::Gvisor);
    if pod.state != SandboxState::Ready {
        bail!("pod \"{}\" does not run; see: cofferdam describe {}", args.pod, args.pod);
    }
    let mut listeners = Vec::new();
    for ports in &args.ports {
        listeners.extend(listen(&args.address, *ports)?);
    }
    let (ended, end) = mpsc::channel();
    let slots = Arc::new(Slots::new(MAX_CONNECTIONS));
    for (listener, ports) in listeners {
        show::say(format_args!("Forwarding from {} -> {}", listener.local_addr()?, ports.remote));
        let (slots, ended) = (slots.clone(), ended.clone());
        let target = Target {
            engine: engine.clone(),
            pod: pod.id.clone(),
            port: ports.remote,
            ends_both,
        };
        std::thread::Builder::new().name("listener".into()).spawn(move || {
            let error = accept(&listener, &target, ports, &slots);
            let _ = ended.send(error);
        })?;
    }
    loop {
        match end.recv_timeout(LOOK) {
            Ok(error) => return Err(error),
            Err(_) => look(&engine, &pod.id, &args.pod)?,
        }
    }
}

fn look(engine: &Engine, pod: &PodId, name: &str) -> Result<()> {
    match engine.sandbox_status(pod) {
        Ok(status) if status.state == SandboxState::Ready => Ok(()),
        _ => bail!("lost connection to pod \"{name}\": it does not run any more"),
    }
}

/// The sockets of one pair. `localhost` is both loopback addresses, of which one will do.
fn listen(addresses: &[String], ports: Ports) -> Result<Vec<(TcpListener, Ports)>> {
    let mut all = Vec::new();
    for address in addresses {
        if address == "localhost" {
            let v4 = bind(IpAddr::from([127, 0, 0, 1]), ports)?;
            let chosen = Ports {
                local: v4.local_addr()?.port(),
                ..ports
            };
            all.push((v4, ports));
            // A machine without IPv6, or one where somebody has that port there.
            all.extend(bind(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), chosen).ok().map(|l| (l, ports)));
        } else {
            let ip = address
                .parse()
                .with_context(|| format!("--address {address:?} is neither an address nor localhost"))?;
            all.push((bind(ip, ports)?, ports));
        }
    }
    Ok(all)
}

fn bind(ip: IpAddr, ports: Ports) -> Result<TcpListener> {
    let address = SocketAddr::new(ip, ports.local);
    TcpListener::bind(address).with_context(|| match ports.local {
        0 => format!("no port of {ip} can be listened on"),
        port => format!(
            "{address} cannot be listened on; choose another local port, such as 1{port}:{}",
            ports.remote
        ),
    })
}

/// Where connections lead.
#[derive(Clone)]
struct Target {
    engine: Arc<Engine>,
    pod: PodId,
    port: u16,
    /// Its end of the way in is the end of the way out too, whatever is still to come: gVisor's.
    ends_both: bool,
}

/// Takes connections for ever; the error that ended it.
fn accept(listener: &TcpListener, target: &Target, ports: Ports, slots: &Arc<Slots>) -> anyhow::Error {
    let local = listener.local_addr().map_or(ports.local, |a| a.port());
    loop {
        let slot = slots.take();
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
            Err(e) => return anyhow::Error::new(e).context(format!("port {local} takes no connections any more")),
        };
        show::say(format_args!("Handling connection for {local}"));
        let target = target.clone();
        let handled = std::thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK)
            .spawn(move || {
                let _slot = slot;
                if let Err(e) = join(&target, stream) {
                    show::tell(format_args!("cofferdam: connection for {local}: {e:#}"));
                }
            });
        if let Err(e) = handled {
            show::tell(format_args!("cofferdam: connection for {local}: no thread can be had for it: {e}"));
        }
    }
}

/// Copies both ways until both sides have said all.
fn join(target: &Target, outside: TcpStream) -> Result<()> {
    // A stream socket of whichever kind the driver has: what is done to it here is the same for all.
    let inside: UnixStream = target.engine.dial(&target.pod, target.port)?.into();
    let (from_outside, to_inside) = (outside.try_clone()?, inside.try_clone()?);
    let heard = Arc::new(Mutex::new(Instant::now()));
    let (last, ends_both) = (heard.clone(), target.ends_both);
    let up = std::thread::Builder::new().name("up".into()).stack_size(STACK).spawn(move || {
        pour(&from_outside, &to_inside, None);
        while ends_both && since(&last) < SILENCE {
            std::thread::sleep(SILENCE - since(&last));
        }
        // Half closed: the answer may still be on its way.
        let _ = to_inside.shutdown(Shutdown::Write);
    })?;
    pour(&inside, &outside, Some(&heard));
    let _ = outside.shutdown(Shutdown::Write);
    let _ = up.join();
    Ok(())
}

fn since(moment: &Mutex<Instant>) -> Duration {
    moment.lock().unwrap_or_else(PoisonError::into_inner).elapsed().min(SILENCE)
}

/// Whoever breaks off ends the copying: that is no error of ours. `heard` is when something came last.
fn pour<R, W>(mut from: &R, mut to: &W, heard: Option<&Mutex<Instant>>)
where
    for<'a> &'a R: Read,
    for<'a> &'a W: Write,
{
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if let Some(heard) = heard {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// How many connections there may be still.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot(Arc<Slots>);

impl Slots {
    fn new(free: usize) -> Self {
        Self {
            free: Mutex::new(free),
            freed: Condvar::new(),
        }
    }

    fn take(self: &Arc<Self>) -> Slot {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        let ports = |local, remote| Ports { local, remote };
        for (text, wanted) in [("80", ports(80, 80)), ("8080:80", ports(8080, 80)), (":80", ports(0, 80))] {
            assert_eq!(text.parse::<Ports>().unwrap(), wanted);
        }
        for bad in ["", ":", "0", "80:", "70000", "http", "1:2:3", "0:80", "-1"] {
            assert!(bad.parse::<Ports>().unwrap_err().contains("is not a port"), "{bad}");
        }
    }
}
