//! What systemd is told: `sd_notify(3)` is one datagram to the socket that `$NOTIFY_SOCKET` names.

use super::stop::End;
use anyhow::{Context, Result};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

/// How often it is looked whether the socket is served.
const POLL: Duration = Duration::from_millis(20);

/// Tells systemd, where it listens. Nobody there is no error.
pub(super) fn tell(state: &str) {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send(name.as_encoded_bytes(), state);
    }
}

/// A name that begins with `@` is abstract.
fn send(name: &[u8], state: &str) -> std::io::Result<usize> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => {
            use std::os::unix::ffi::OsStrExt;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?
        }
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
}

/// Tells systemd as soon as somebody answers at `socket`, and does what comes then.
pub(super) fn when_served(socket: &Path, end: End, then: impl FnOnce() + Send + 'static) -> Result<()> {
    let socket = socket.to_owned();
    let wait = move || {
        while !end.is_reached() {
            if UnixStream::connect(&socket).is_ok() {
                tell("READY=1");
                return then();
            }
            std::thread::sleep(POLL);
        }
    };
    std::thread::Builder::new()
        .name("ready".into())
        .spawn(wait)
        .context("systemd cannot be told")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_datagram_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let abstract_name = format!("cofferdam-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        for (socket, name) in [(by_path, path.to_str().unwrap().to_owned()), (by_name, format!("@{abstract_name}"))] {
            send(name.as_bytes(), "READY=1").unwrap();
            let mut text = [0; 32];
            let length = socket.recv(&mut text).unwrap();
            assert_eq!(text.get(..length), Some(&b"READY=1"[..]));
        }
        assert!(send(b"/nonexistent/n", "x").is_err());
    }
}
