//! A server that answers as told, and kubeconfigs that lead to it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cofferdam_cluster::{Cluster, Error, Limits};

/// What the server does with one request.
pub enum Reply {
    /// Writes these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes and keeps the connection open.
    Stall(Vec<u8>),
    /// Writes a chunked body until nobody reads any more.
    Endless,
}

/// A whole answer of JSON.
pub fn json(status: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into(),
    )
}

pub struct Server {
    pub address: SocketAddr,
    /// The head of each request.
    pub heads: Receiver<String>,
}

/// Serves one reply a request, in order, then nothing more.
pub fn serve(replies: Vec<Reply>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, heads) = channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for reply in replies {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = send.send(head(&mut stream));
            match reply {
                Reply::Bytes(bytes) => drop(stream.write_all(&bytes)),
                Reply::Stall(bytes) => {
                    let _ = stream.write_all(&bytes);
                    open.push(stream);
                }
                Reply::Endless => endless(&mut stream),
            }
        }
        // Connections that stall stay open until the test's process ends.
        loop {
            std::thread::park();
        }
    });
    Server { address, heads }
}

fn head(stream: &mut TcpStream) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn endless(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    while stream.write_all(&chunk).is_ok() {}
}

/// A folder with a kubeconfig whose one user is `user` (YAML of one line).
pub struct Home {
    pub dir: tempfile::TempDir,
}

impl Home {
    pub fn new(address: SocketAddr, user: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Self { dir };
        home.write(
            "config",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: main\n\
                 clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
                 users: [{{name: u, user: {user}}}]\n\
                 contexts:\n- {{name: main, context: {{cluster: c, user: u}}}}\n- {{name: other, context: {{cluster: c, user: u, namespace: shop}}}}\n"
            ),
        );
        home
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn open(&self) -> Result<Cluster, Error> {
        Cluster::open(Some(&self.path()), None)
    }

    pub fn open_within(&self, limits: Limits) -> Cluster {
        Cluster::open_within(Some(&self.path()), None, limits).unwrap()
    }
}

/// Limits of a test that waits for one of them.
pub fn hasty() -> Limits {
    Limits {
        request: Duration::from_millis(300),
        list_bytes: 1 << 20,
    }
}
