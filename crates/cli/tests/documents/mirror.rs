//! A registry on loopback that stands for those which the documents' images come from.

use super::common::{World, answer, until};
use super::image;
use serde_json::json;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Where the documents' images are, by the names that the mirror is asked for.
const PUBLIC: [(&str, &str, &str); 3] = [
    ("docker.io", "library/nginx:alpine", "nginx:alpine"),
    ("docker.io", "library/nginx:latest", "nginx:latest"),
    ("registry.example.com", "ci-runner:v1", "registry.example.com/ci-runner:v1"),
];

/// Debian's docker-registry.
#[derive(Debug)]
pub(crate) struct Mirror(Child);

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Mirror {
    /// Starts one that has the images, and makes it the mirror of their registries in this world, which
    /// itself has none.
    pub(crate) fn of(world: &World) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = json!({
            "version": 0.1, "log": {"level": "error"}, "http": {"addr": format!("127.0.0.1:{port}")},
            "storage": {"filesystem": {"rootdirectory": world.dir.join("registry")}},
        });
        let file = world.dir.join("registry.json");
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mirror = Self(
            command
                .spawn()
                .expect("docker-registry is missing; install Debian's docker-registry"),
        );
        until("the mirror listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let archive = world.dir.join("documents.tar");
        fs::write(&archive, image::archive()).unwrap();
        for (registry, name, tag) in PUBLIC {
            let mut copy = Command::new("skopeo");
            copy.args(["copy", "-q", "--dest-tls-verify=false"]);
            copy.arg(format!("docker-archive:{}:{tag}", archive.display()))
                .arg(format!("docker://127.0.0.1:{port}/{name}"));
            answer(copy, b"").good();
            let hosts = world.dir.join("certs.d").join(registry);
            fs::create_dir_all(&hosts).unwrap();
            let text =
                format!("server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:{port}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
            fs::write(hosts.join("hosts.toml"), text).unwrap();
        }
        mirror
    }
}
