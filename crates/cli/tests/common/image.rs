//! The image of the tests: the machine's static busybox, as `docker save` writes one.

use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::OnceLock;

const APPLETS: &str = "sh sleep cat echo uname ls ps id env true false grep wc head tail hostname mount umount mkdir rm touch \
    kill stat test seq date nc wget ping ip df dd sed awk tr cut sort find chmod chown ln readlink mknod stty tty httpd \
    pwd printf ipcs printenv tar unshare";

/// A docker archive of [`super::IMAGE`], made once.
pub(crate) fn archive() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| docker_archive(super::IMAGE, ""))
}

/// A docker archive; `marker` makes an image with an id of its own.
pub(crate) fn docker_archive(name: &str, marker: &str) -> Vec<u8> {
    let layer = layer(marker);
    let diff: String = Sha256::digest(&layer).iter().map(|b| format!("{b:02x}")).collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh", "-c", "echo image command > /dev/termination-log"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, data) in [
        ("manifest.json", manifest.to_string().into_bytes()),
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
    ] {
        add(&mut archive, path, 0o644, &data);
    }
    archive.into_inner().unwrap()
}

fn layer(marker: &str) -> Vec<u8> {
    let places = ["/usr/local/lib/cofferdam/busybox", "/usr/bin/busybox", "/bin/busybox"];
    let busybox = places.map(Path::new).into_iter().find(|p| p.exists());
    let busybox = std::fs::read(busybox.expect("busybox is missing; install Debian's busybox-static")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for (dir, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700)] {
        let mut header = header(mode, 0);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, dir, &[][..]).unwrap();
    }
    add(&mut tar, "bin/busybox", 0o755, &busybox);
    add(
        &mut tar,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n",
    );
    add(&mut tar, "etc/group", 0o644, b"root:x:0:\nworker:x:1000:\n");
    add(&mut tar, "etc/marker", 0o644, marker.as_bytes());
    for applet in APPLETS.split_whitespace() {
        let mut header = header(0o777, 0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, data: &[u8]) {
    tar.append_data(&mut header(mode, data.len()), path, data).unwrap();
}
