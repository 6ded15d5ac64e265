//! Calls of the sentry over its control socket: plain JSON without frames, descriptors beside the first
//! byte (`pkg/urpc/urpc.go`).

use crate::state::clip;
use crate::{Error, Result};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the sentry may take to answer a call that does not wait for a process.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Most that is read of an answer, bytes.
const MAX_REPLY: u64 = 1 << 20;

/// A call as it is written.
pub(super) fn request(method: &str, arg: &Value) -> Vec<u8> {
    json!({"method": format!("containerManager.{method}"), "arg": arg})
        .to_string()
        .into_bytes()
}

/// One call that answers at once, with a descriptor where it takes one.
pub(super) fn call(socket: &Path, method: &str, arg: &Value, fd: Option<BorrowedFd<'_>>) -> Result<Value> {
    let failed = |reason: String| Error::Runtime {
        command: format!("gVisor's {method}"),
        reason,
    };
    let reply = exchange(socket, &request(method, arg), fd).map_err(|e| failed(e.to_string()))?;
    let reply = reply
        .ok_or_else(|| failed("it closed the connection".into()))?
        .map_err(|e| failed(e.to_string()))?;
    if reply["success"] == json!(true) {
        return Ok(reply["result"].clone());
    }
    Err(failed(clip(reply["err"].as_str().unwrap_or("it refused and said nothing"))))
}

fn exchange(socket: &Path, request: &[u8], fd: Option<BorrowedFd<'_>>) -> std::io::Result<Option<serde_json::Result<Value>>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(CALL_TIMEOUT))?;
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    let sent = match fd {
        Some(fd) => send_with(&stream, request, fd)?,
        None => 0,
    };
    stream.write_all(&request[sent..])?;
    Ok(serde_json::Deserializer::from_reader(stream.take(MAX_REPLY))
        .into_iter::<Value>()
        .next())
}

fn send_with(stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> std::io::Result<usize> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(std::io::Error::other("a descriptor does not fit a message"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_call_carries_its_descriptor_and_its_answer_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut bytes, mut space) = ([0u8; 1024], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty()).unwrap();
            let fds: Vec<_> = control
                .drain()
                .flat_map(|m| {
                    if let RecvAncillaryMessage::ScmRights(fds) = m {
                        fds.collect()
                    } else {
                        vec![]
                    }
                })
                .collect();
            rustix::io::write(&fds[0], b"through").unwrap();
            stream.write_all(br#"{"success":true,"result":{"seen":1}}"#).unwrap();
            String::from_utf8(bytes[..got.bytes].to_vec()).unwrap()
        });
        let told = call(&path, "PortForward", &json!({"Port": 80}), Some(theirs.as_fd())).unwrap();
        drop(theirs);
        assert_eq!(told["seen"], 1);
        assert_eq!(
            server.join().unwrap(),
            r#"{"method":"containerManager.PortForward","arg":{"Port":80}}"#
        );
        let mut text = String::new();
        (&ours).take(7).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn what_the_sentry_refuses_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [r#"{"success":false,"err":"connection\nwas refused"}"#, ""] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0u8; 1024];
                let _ = stream.read(&mut bytes).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let told = |path: &Path| call(path, "Event", &json!("c"), None).unwrap_err().to_string();
        assert_eq!(told(&path), "gVisor's Event failed: connection was refused");
        assert_eq!(told(&path), "gVisor's Event failed: it closed the connection");
        server.join().unwrap();
        assert!(told(&dir.path().join("none")).contains("No such file"));
    }
}
