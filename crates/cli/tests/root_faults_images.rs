//! Images when things go wrong: registries that stall, lie and cut off, disks that are full, commands
//! that are killed. Each is one sentence, and the next try ends well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::disk::Disk;
use common::{Answer, Running, World, answer, app, brief, finish, image, names, pod, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong; counts are of the layer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Connections are taken and nothing is ever said.
    Silent,
    /// The first answer stops after so many bytes, and stays open.
    StallsOnce(usize),
    /// Each answer stops after so many bytes while this lasts, and goes on after.
    Held(usize),
    /// The first answer is cut off after so many bytes.
    CutsOnce(usize),
    /// Each answer is cut off after so many bytes.
    CutsAlways(usize),
    /// After a cut, the answer to the request for the rest is of another place.
    AnswersElsewhere(usize),
    /// `Content-Length` is more, or less, than the layer has.
    Length(i64),
    /// The manifest promises more, or fewer, bytes than the layer has.
    Promise(i64),
    /// No length is told, and half of it comes.
    Half,
    /// One byte is another, in the middle.
    Changed,
    /// As before, in the configuration.
    ChangedConfig,
    /// The manifest is said to have another digest.
    OtherDigest,
    /// What is said is not HTTP.
    Garbage,
    /// The manifest has more bytes than any may have.
    Endless,
    /// Its disk is full too.
    Broken,
}

/// An image, as a registry has it.
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    config: Value,
    layer: Value,
    fault: Mutex<Fault>,
    /// Of each request for the layer: its first byte.
    asked: Mutex<Vec<usize>>,
}

/// A registry of one test.
struct Registry {
    port: u16,
    content: Arc<Content>,
}

fn digest(data: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect::<String>())
}

impl Registry {
    fn start(fault: Fault) -> Self {
        let archive = image::docker_archive(common::IMAGE, "faults");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let (mut entry, mut data) = (entry.unwrap(), Vec::new());
            entry.read_to_end(&mut data).unwrap();
            files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), data);
        }
        let named = |file: &str, kind: &str| {
            let data = files[file].clone();
            let descriptor = json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(&data), "size": data.len()});
            (descriptor, data)
        };
        let ((config, config_data), (layer, layer_data)) = (named("config.json", "config.v1+json"), named("layer.tar", "layer.v1.tar"));
        let blobs = [(digest(&config_data), config_data), (digest(&layer_data), layer_data)].into();
        let content = Arc::new(Content { blobs, config, layer, fault: Mutex::new(fault), asked: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = content.clone();
        // Until the test's process ends.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = shared.clone();
                // Whoever asked may be gone.
                std::thread::spawn(move || drop(content.serve(stream)));
            }
        });
        Self { port, content }
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}/a/b:1", self.port)
    }

    fn set(&self, fault: Fault) {
        *self.content.fault.lock().unwrap() = fault;
    }

    /// Of each request for the layer so far: its first byte.
    fn asked(&self) -> Vec<usize> {
        self.content.asked.lock().unwrap().clone()
    }

    fn layer(&self) -> &Vec<u8> {
        &self.content.blobs[self.content.layer["digest"].as_str().unwrap()]
    }
}

impl Content {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// Answers one request.
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let request = lines.next().unwrap_or_default();
        let range = |line: String| line.to_ascii_lowercase().strip_prefix("range: bytes=")?.split('-').next()?.parse::<usize>().ok();
        let from = lines.filter_map(range).last();
        let path = request.split(' ').nth(1).unwrap_or_default();
        match self.fault() {
            Fault::Silent => return hold(&mut stream),
            Fault::Garbage => return stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n"),
            Fault::Broken => return stream.write_all(b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            _ => {}
        }
        if path.contains("/manifests/") {
            return self.manifest(&mut stream, request.starts_with("HEAD"));
        }
        match path.rsplit('/').next().and_then(|digest| Some((digest, self.blobs.get(digest)?))) {
            Some((digest, data)) if self.layer["digest"] == digest => self.layer(&mut stream, data, from),
            Some((_, data)) if self.fault() == Fault::ChangedConfig => reply(&mut stream, "200 OK", Some(data.len() as i64), &changed(data)),
            Some((_, data)) => reply(&mut stream, "200 OK", Some(data.len() as i64), data),
            None => reply(&mut stream, "200 OK", Some(2), b"{}"),
        }
    }

    fn manifest(&self, stream: &mut TcpStream, head: bool) -> std::io::Result<()> {
        let mut layer = self.layer.clone();
        if let Fault::Promise(more) = self.fault() {
            layer["size"] = json!(layer["size"].as_i64().unwrap() + more);
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": self.config, "layers": [layer]}).to_string();
        let named = if self.fault() == Fault::OtherDigest { digest(b"another") } else { digest(manifest.as_bytes()) };
        let length = if self.fault() == Fault::Endless { 1 << 40 } else { manifest.len() };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {named}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
        if head {
            return Ok(());
        }
        stream.write_all(manifest.as_bytes())?;
        while self.fault() == Fault::Endless {
            stream.write_all(&[b' '; 1 << 16])?;
        }
        Ok(())
    }

    fn layer(&self, stream: &mut TcpStream, data: &[u8], from: Option<usize>) -> std::io::Result<()> {
        let first = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(from.unwrap_or(0));
            asked.len() == 1
        };
        let (at, size) = (from.unwrap_or(0), data.len());
        let shown = if matches!(self.fault(), Fault::AnswersElsewhere(_)) { 0 } else { at };
        let status = from.map_or_else(|| "200 OK".to_owned(), |_| format!("206 Partial Content\r\nContent-Range: bytes {shown}-{}/{size}", size - 1));
        let rest = &data[at..];
        let length = rest.len() as i64;
        match self.fault() {
            Fault::Length(more) => reply(stream, &status, Some(length + more), rest),
            Fault::Half => reply(stream, &status, None, &rest[..rest.len() / 2]),
            Fault::Changed => reply(stream, &status, Some(length), &changed(rest)),
            Fault::CutsOnce(n) | Fault::AnswersElsewhere(n) if first => reply(stream, &status, Some(length), &rest[..n]),
            Fault::CutsAlways(n) => reply(stream, &status, Some(length), &rest[..n.min(rest.len())]),
            Fault::StallsOnce(n) if first => {
                reply(stream, &status, Some(length), &rest[..n])?;
                hold(stream)
            }
            Fault::Held(n) => {
                let n = n.min(rest.len());
                reply(stream, &status, Some(length), &rest[..n])?;
                while matches!(self.fault(), Fault::Held(_)) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                stream.write_all(&rest[n..])
            }
            _ => reply(stream, &status, Some(length), rest),
        }
    }
}

/// Says nothing more until the other side leaves.
fn hold(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn changed(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    data
}

fn reply(stream: &mut TcpStream, status: &str, length: Option<i64>, body: &[u8]) -> std::io::Result<()> {
    let length = length.map(|n| format!("Content-Length: {n}\r\n")).unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\n{length}Connection: close\r\n\r\n")?;
    stream.write_all(body)
}

/// Fails unless this is one sentence on standard error that says all of `words`.
#[track_caller]
fn sentence(answer: &Answer, words: &[&str]) {
    assert!(answer.code.is_some_and(|code| code != 0), "{answer:?}");
    assert_eq!((answer.err.lines().count(), answer.out.as_str()), (1, ""), "{answer:?}");
    assert!(words.iter().all(|word| answer.err.contains(word)), "looked for {words:?} in: {}", answer.err);
    assert!(answer.err.len() < 800, "{answer:?}");
}

/// Fails unless the store has no image, and nothing unfinished but what a pull goes on from.
#[track_caller]
fn has_nothing(world: &World) {
    assert_eq!(world.call(&["image", "ls", "-o", "json"]).good().json(), json!([]));
    for dir in ["images", "layers", "tmp"] {
        let left = names(&world.root().join("images").join(dir));
        assert!(left.is_empty(), "left in {dir}: {left:?}");
    }
}

/// Fails unless the image is there, whole, and runs.
#[track_caller]
fn is_well(world: &World, registry: &Registry) {
    assert_eq!(world.call(&["image", "ls", "-o", "json"]).good().json().as_array().unwrap().len(), 1);
    let fsck = world.call(&["image", "fsck"]).good();
    assert!(fsck.out.contains("nothing is damaged"), "{fsck:?}");
    let mut runs = pod("p", "crun", &[app("cat /etc/marker > /dev/termination-log")]);
    runs["spec"]["containers"][0]["image"] = json!(registry.name());
    runs["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
    let (code, report) = world.report(&[runs]);
    assert_eq!(code, 0, "{}", brief(&report));
    assert_eq!(common::message(&report, "p", "app"), "faults");
}

/// Pulls with a fault, which must be told with `words`; then without, which must go well.
#[track_caller]
fn fails_and_then_goes_well(fault: Fault, words: &[&str]) {
    let (world, registry) = (World::bare(), Registry::start(fault));
    sentence(&world.call(&["image", "pull", &registry.name()]), words);
    has_nothing(&world);
    registry.set(Fault::Nothing);
    world.call(&["image", "pull", &registry.name()]).good();
    is_well(&world, &registry);
}

#[test]
fn a_lie_about_length_or_digest_is_one_sentence_and_nothing_of_it_is_used() {
    for (fault, words) in [
        (Fault::Length(7), &["instead of"][..]),
        (Fault::Length(-7), &["instead of"]),
        (Fault::Promise(7), &["instead of"]),
        (Fault::Promise(-7), &["instead of"]),
        (Fault::Changed, &["digest", "promised"]),
        (Fault::ChangedConfig, &["digest", "promised"]),
        (Fault::OtherDigest, &["with the digest", "broken or hostile"]),
        (Fault::Garbage, &["127.0.0.1"]),
        (Fault::Endless, &["more than 4194304 bytes"]),
    ] {
        eprintln!("{fault:?}");
        fails_and_then_goes_well(fault, words);
    }
}

#[test]
fn a_registry_that_is_broken_for_a_while_is_one_sentence() {
    for (fault, words) in [(Fault::Broken, &["507", "try again later"][..]), (Fault::CutsAlways(0), &["could not be resumed in 5 tries"])] {
        fails_and_then_goes_well(fault, words);
    }
}

#[test]
fn a_layer_that_is_cut_off_again_and_again_is_one_sentence_and_is_gone_on_with_by_the_next_pull() {
    let (world, registry) = (World::bare(), Registry::start(Fault::CutsAlways(10_000)));
    let failed = world.call(&["image", "pull", &registry.name()]);
    sentence(&failed, &["60000 of", "could not be resumed in 5 tries", "cut the connection"]);
    has_nothing(&world);
    assert_eq!(registry.asked(), [0, 10_000, 20_000, 30_000, 40_000, 50_000]);
    registry.set(Fault::Nothing);
    world.call(&["image", "pull", &registry.name()]).good();
    assert_eq!(registry.asked().last(), Some(&60_000), "nothing is fetched twice");
    is_well(&world, &registry);
}

#[test]
fn a_cut_in_the_middle_is_gone_on_from_there() {
    for (fault, rest) in [
        (Fault::CutsOnce(300_000), 300_000),
        (Fault::CutsOnce(0), 0),
        // Of half the rest, the half.
        (Fault::Half, usize::MAX),
    ] {
        let (world, registry) = (World::bare(), Registry::start(fault));
        let answer = world.call(&["image", "pull", &registry.name(), "-o", "json"]);
        if fault == Fault::Half {
            // It brings ever less, until it does not count as progress.
            sentence(&answer, &["could not be resumed"]);
            registry.set(Fault::Nothing);
            world.call(&["image", "pull", &registry.name()]).good();
        } else {
            assert_eq!(answer.good().json()[0]["bytesFetched"], registry.layer().len());
            assert_eq!(registry.asked(), [0, rest]);
        }
        is_well(&world, &registry);
    }
}

#[test]
fn a_rest_that_is_of_another_place_is_not_used() {
    fails_and_then_goes_well(Fault::AnswersElsewhere(300_000), &["of bytes 300000 to", "it sends"]);
}

/// Each waits for the time of a stall, half a minute: side by side.
#[test]
fn a_registry_that_stalls_is_one_sentence_or_gone_on_with() {
    let (worlds, silent, stalls) = ([World::bare(), World::bare()], Registry::start(Fault::Silent), Registry::start(Fault::StallsOnce(300_000)));
    let pulls = [&silent, &stalls].map(|registry| ["image".to_owned(), "pull".into(), registry.name()]);
    let spawned = [0, 1].map(|n| worlds[n].spawn(&pulls[n].each_ref().map(String::as_str), b""));
    let [of_silent, of_stalls] = spawned.map(finish);
    sentence(&of_silent, &["127.0.0.1", "stalled", "30 s without progress"]);
    has_nothing(&worlds[0]);
    of_stalls.good();
    assert_eq!(stalls.asked(), [0, 300_000]);
    is_well(&worlds[1], &stalls);
}

/// Starts a pull, and returns when half of the layer is here.
fn half_way(world: &World, registry: &Registry) -> Running {
    let pull = Running(world.spawn(&["image", "pull", &registry.name()], b""));
    let partial = world.root().join("images/partial");
    let size = || names(&partial).iter().filter_map(|name| fs::metadata(partial.join(name)).ok()).map(|meta| meta.len()).sum::<u64>();
    until("half of the layer is here", || (size() > 200_000).then_some(()));
    pull
}

/// The answer of a command that was watched.
#[track_caller]
fn ended(mut running: Running) -> Answer {
    let (mut out, mut err) = (String::new(), String::new());
    running.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    running.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Answer { code: until("it ends", || running.0.try_wait().unwrap()).code(), out, err }
}

#[test]
fn a_pull_that_is_killed_is_gone_on_with_by_the_next() {
    let (world, registry) = (World::bare(), Registry::start(Fault::Held(400_000)));
    let mut pull = half_way(&world, &registry);
    common::signal(pull.0.id(), Signal::KILL);
    until("it is dead", || pull.0.try_wait().unwrap());
    has_nothing(&world);
    assert!(world.call(&["image", "fsck"]).good().out.contains("nothing is damaged"));
    registry.set(Fault::Nothing);
    world.call(&["image", "pull", &registry.name()]).good();
    assert!(registry.asked()[1] > 200_000, "{:?}", registry.asked());
    is_well(&world, &registry);
}

#[test]
fn two_pulls_of_one_image_at_once_fetch_it_once() {
    let (world, registry) = (World::bare(), Registry::start(Fault::Held(400_000)));
    let first = half_way(&world, &registry);
    let second = Running(world.spawn(&["image", "pull", &registry.name()], b""));
    // It may be anywhere when the first goes on.
    std::thread::sleep(Duration::from_millis(100));
    registry.set(Fault::Nothing);
    ended(first).good();
    ended(second).good();
    assert_eq!(registry.asked(), [0], "the layer is fetched once");
    is_well(&world, &registry);
}

#[test]
fn one_of_two_pulls_is_killed_and_the_other_goes_on() {
    let (world, registry) = (World::bare(), Registry::start(Fault::Held(400_000)));
    let mut first = half_way(&world, &registry);
    let second = Running(world.spawn(&["image", "pull", &registry.name()], b""));
    std::thread::sleep(Duration::from_millis(100));
    common::signal(first.0.id(), Signal::KILL);
    until("it is dead", || first.0.try_wait().unwrap());
    until("the other goes on", || (registry.asked().len() == 2).then_some(()));
    registry.set(Fault::Nothing);
    ended(second).good();
    assert!(registry.asked()[1] > 200_000, "{:?}", registry.asked());
    is_well(&world, &registry);
}

#[test]
fn pruning_takes_nothing_from_a_pull_that_is_under_way() {
    let (world, registry) = (World::bare(), Registry::start(Fault::Held(400_000)));
    let pull = half_way(&world, &registry);
    let prune = Running(world.spawn(&["image", "prune", "--all"], b""));
    let other = Running(world.spawn(&["image", "fsck"], b""));
    std::thread::sleep(Duration::from_millis(200));
    registry.set(Fault::Nothing);
    ended(pull).good();
    ended(prune).good();
    ended(other).good();
    assert_eq!(registry.asked(), [0]);
    // Whoever came last: the image is there, or not at all.
    if world.call(&["image", "ls", "-o", "json"]).good().json() == json!([]) {
        has_nothing(&world);
        world.call(&["image", "pull", &registry.name()]).good();
    }
    is_well(&world, &registry);
}

#[test]
fn a_disk_that_is_full_while_a_layer_is_unpacked_is_one_sentence_and_is_left_as_it_was() {
    let (world, registry) = (World::bare(), Registry::start(Fault::Nothing));
    let disk = Disk::new(&world, 64);
    disk.call(&["image", "ls"]).good();
    let archive = image::archive();
    let half = registry.layer().len() as u64 / 1024 / 2;
    let pull = registry.name();
    // Room for nothing, for a part of the kept bytes, and for those but not for the files.
    for kib in [4, half, half * 3] {
        for (args, input) in [(&["image", "load"][..], archive), (&["image", "pull", &pull], b"")] {
            disk.leave(kib);
            let before = disk.free();
            sentence(&disk.input(args, input), &["No space left on device"]);
            assert!(disk.free() + (64 << 10) >= before, "{args:?} with {kib} KiB: {before} bytes were free, now {}", disk.free());
            assert_eq!(disk.call(&["image", "ls", "-o", "json"]).good().json(), json!([]));
            for dir in ["images", "layers", "tmp"] {
                assert_eq!(names(&disk.root().join("images").join(dir)), [""; 0], "{args:?} with {kib} KiB");
            }
        }
    }
    disk.empty();
    disk.input(&["image", "load"], archive).good();
    disk.call(&["image", "pull", &pull]).good();
    assert!(disk.call(&["image", "fsck"]).good().out.contains("nothing is damaged"));
    assert_eq!(disk.call(&["image", "ls", "-o", "json"]).good().json().as_array().unwrap().len(), 2);
}

#[test]
fn a_disk_that_can_only_be_read_keeps_what_it_has() {
    let (world, registry) = (World::bare(), Registry::start(Fault::Nothing));
    let disk = Disk::new(&world, 64);
    disk.input(&["image", "load"], image::archive()).good();
    disk.remount("ro");
    for args in [&["image", "pull", &registry.name()][..], &["image", "rm", common::IMAGE], &["image", "prune", "--all"]] {
        sentence(&disk.call(args), &["Read-only file system"]);
    }
    disk.remount("rw");
    assert!(disk.call(&["image", "fsck"]).good().out.contains("nothing is damaged"));
    assert_eq!(disk.call(&["image", "ls", "-o", "json"]).good().json().as_array().unwrap().len(), 1);
}

#[test]
fn a_save_onto_a_full_disk_is_one_sentence_and_leaves_no_half_an_archive() {
    let world = World::new();
    let other = World::bare();
    let disk = Disk::new(&other, 64);
    disk.leave(100);
    let target = disk.root().join("saved.tar");
    let saved = world.call(&["image", "save", common::IMAGE, "-O", target.to_str().unwrap()]);
    sentence(&saved, &["No space left on device"]);
    assert_eq!(names(&disk.root()), ["filler"]);
    // A pipe that nobody reads is no archive either.
    let mut command = Command::new("sh");
    let inner = world.command(&["image", "save", common::IMAGE]);
    let words: Vec<_> = std::iter::once(inner.get_program()).chain(inner.get_args()).map(|w| w.to_str().unwrap()).collect();
    command.args(["-c", &format!("{{ {} && echo well >&2; }} | true", words.join(" "))]);
    let piped = answer(command, b"");
    assert!(!piped.err.contains("well") && !piped.err.contains("panicked"), "{piped:?}");
}
