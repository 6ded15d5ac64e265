//! A small disk for a world's root: a tmpfs in a mount namespace of its own, in which commands run.

use super::{Answer, World, answer};
use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The disk. It goes with the last process in its mount namespace.
#[derive(Debug)]
pub(crate) struct Disk<'a> {
    world: &'a World,
    holder: Child,
}

impl<'a> Disk<'a> {
    /// Mounts one at the world's root.
    pub(crate) fn new(world: &'a World, mib: u32) -> Self {
        if !world.root().exists() {
            DirBuilder::new().mode(0o700).create(world.root()).unwrap();
        }
        let script = format!(
            "mount -t tmpfs -o mode=0700,size={mib}m none {} && echo ready && exec cat",
            world.root().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is missing");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        Self { world, holder }
    }

    /// A command of the world's that sees the disk.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let inner = self.world.command(args);
        self.inside(inner.get_program().to_str().unwrap(), inner.get_args().map(|a| a.to_str().unwrap()))
    }

    fn inside<'b>(&self, program: &str, args: impl Iterator<Item = &'b str>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .arg("--")
            .arg(program)
            .args(args);
        command.env_remove("COFFERDAM_KILL_AT");
        command
    }

    /// As [`World::input`].
    #[track_caller]
    pub(crate) fn input(&self, args: &[&str], input: &[u8]) -> Answer {
        answer(self.command(args), input)
    }

    /// As [`World::call`].
    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Answer {
        self.input(args, b"")
    }

    /// The world's root, as everybody sees it.
    pub(crate) fn root(&self) -> PathBuf {
        let root = self.world.root();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(root.strip_prefix("/").unwrap())
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.root()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Fills the disk but for so many KiB, in place of what filled it before.
    pub(crate) fn leave(&self, kib: u64) {
        let filler = self.root().join("filler");
        let _ = fs::remove_file(&filler);
        let size = self.free().checked_sub(kib << 10).expect("more was to be left than is free");
        fs::write(filler, vec![0; usize::try_from(size).unwrap()]).unwrap();
    }

    /// Makes room again.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.root().join("filler")).unwrap();
    }

    /// What begins from now on can only read it (`ro`), or write again (`rw`).
    pub(crate) fn remount(&self, how: &str) {
        let options = format!("remount,bind,{how}");
        let root = self.world.root();
        answer(self.inside("mount", ["-o", &options, root.to_str().unwrap()].into_iter()), b"").good();
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = fs::remove_file(self.root().join("filler"));
            eprintln!("after a failure: {:?}", self.call(&["stop", "--all", "--grace", "0"]));
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
