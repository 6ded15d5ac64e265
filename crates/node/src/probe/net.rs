//! Connections of probes and hooks: bounded in time, and with the errors that Go's `net` would tell,
//! as that is what people know from the kubelet's events.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a wait may be deaf to [`Patience::over`].
const SLICE: Duration = Duration::from_millis(500);
/// As upstream, so that probes leave no connections in TIME_WAIT (`pkg/probe/dialer_others.go`).
const LINGER: Duration = Duration::from_secs(1);

/// How long something may take.
pub(crate) struct Patience<'a> {
    /// Its end.
    pub(crate) until: Instant,
    /// Whether nobody waits for it any more.
    pub(crate) over: &'a (dyn Fn() -> bool + Sync),
}

impl Patience<'_> {
    /// So long, whatever happens.
    pub(crate) fn of(time: Duration) -> Self {
        let now = Instant::now();
        Self {
            until: now.checked_add(time).unwrap_or(now),
            over: &|| false,
        }
    }

    pub(crate) fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero() && !(self.over)()).then_some(left)
    }
}

/// Connects to `host`. An error is one phrase.
pub(crate) fn dial<'a>(host: &str, port: u16, patience: &'a Patience<'a>) -> Result<Wire<'a>, String> {
    let mut why = format!("dial tcp: lookup {host}: no such host");
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => (host, port).to_socket_addrs().map_err(|_| why.clone())?.collect(),
    };
    for address in addresses {
        let dialled = patience
            .left()
            .ok_or_else(timed_out)
            .and_then(|left| TcpStream::connect_timeout(&address, left));
        match dialled {
            Ok(stream) => {
                // Without it the connection only lingers longer.
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(LINGER));
                return Ok(Wire { stream, patience });
            }
            Err(err) => why = format!("dial tcp {address}: {}", said("connect", &err)),
        }
    }
    Err(why)
}

fn timed_out() -> io::Error {
    io::Error::from(ErrorKind::TimedOut)
}

/// What Go says of an error in a system call.
pub(crate) fn said(call: &str, err: &io::Error) -> String {
    let what = match err.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => return "i/o timeout".into(),
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset by peer".into(),
        ErrorKind::HostUnreachable => "no route to host".into(),
        ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        ErrorKind::BrokenPipe => "broken pipe".into(),
        ErrorKind::UnexpectedEof => return "EOF".into(),
        ErrorKind::Other => return err.to_string(),
        _ => err.to_string(),
    };
    format!("{call}: {what}")
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A connection that ends with somebody's patience.
pub(crate) struct Wire<'a> {
    stream: TcpStream,
    patience: &'a Patience<'a>,
}

impl Wire<'_> {
    fn patiently(&mut self, mut act: impl FnMut(&mut TcpStream, Duration) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = self.patience.left().ok_or_else(timed_out)?;
            match act(&mut self.stream, left.min(SLICE)) {
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                done => return done,
            }
        }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|stream, slice| {
            stream.set_read_timeout(Some(slice))?;
            stream.read(buffer)
        })
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|stream, slice| {
            stream.set_write_timeout(Some(slice))?;
            stream.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
