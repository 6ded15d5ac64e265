//! `cp`: files into containers and out of them, under every handler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, WAITS, World, app, names, pod};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn running() -> World {
    let world = World::new();
    world.detach(&ALL.map(|handler| pod(handler, handler, &[app(WAITS)])));
    world
}

#[test]
fn a_folder_goes_in_and_comes_back_the_same() {
    let world = running();
    let (here, back) = (world.dir.join("here"), world.dir.join("back"));
    fs::create_dir_all(here.join("sub/deep")).unwrap();
    fs::create_dir_all(here.join("empty")).unwrap();
    let long: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(here.join("long"), &long).unwrap();
    fs::write(here.join("sub/deep/short"), "words").unwrap();
    fs::set_permissions(here.join("sub/deep/short"), fs::Permissions::from_mode(0o750)).unwrap();
    let here = here.to_str().unwrap();
    for handler in ALL {
        // Into a folder that is there, and as one that is not.
        world.call(&["cp", here, &format!("{handler}:/tmp")]).good();
        world.call(&["cp", here, &format!("{handler}:/tmp/other")]).good();
        for name in ["here", "other"] {
            let to = back.join(format!("{handler}-{name}"));
            world.call(&["cp", &format!("{handler}:/tmp/{name}"), to.to_str().unwrap()]).good();
            assert!(fs::read(to.join("long")).unwrap() == long, "{handler}");
            assert_eq!(fs::read_to_string(to.join("sub/deep/short")).unwrap(), "words", "{handler}");
            let mode = fs::metadata(to.join("sub/deep/short")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o750, "{handler}");
            assert!(to.join("empty").is_dir(), "{handler}");
        }
    }
}

#[test]
fn one_file_goes_into_a_folder_or_takes_a_name() {
    let world = running();
    let file = world.dir.join("file");
    fs::write(&file, "one").unwrap();
    let file = file.to_str().unwrap();
    let back = world.dir.join("back");
    fs::create_dir(&back).unwrap();
    for handler in ALL {
        world.call(&["cp", file, &format!("default/{handler}:/tmp/"), "-c", "app"]).good();
        world.call(&["cp", file, &format!("{handler}:/tmp/named"), "--no-preserve"]).good();
        for (from, to) in [("/tmp/file", ""), ("tmp/named", "own")] {
            let to = back.join(format!("{handler}{to}"));
            world.call(&["cp", &format!("{handler}:{from}"), to.to_str().unwrap()]).good();
            assert_eq!(fs::read_to_string(&to).unwrap(), "one", "{handler}");
        }
    }
}

#[test]
fn what_cannot_be_copied_is_told() {
    let world = running();
    let to = world.dir.join("to");
    let to = to.to_str().unwrap();
    world.call(&["cp", "crun:/no/such", to]).fails(120, "No such file");
    world.call(&["cp", "/no/such", "crun:/tmp"]).fails(120, "/no/such");
    world.call(&["cp", "/etc/hosts", "crun:/no/such/folder/x"]).fails(120, "No such file");
    world.call(&["cp", "/etc/hosts", "/tmp/x"]).fails(120, "both paths are here");
    world.call(&["cp", "crun:/a", "runc:/b"]).fails(120, "both paths are of pods");
    world.call(&["cp", "nothing:/a", to]).fails(120, "is not here");
    world.call(&["cp", "crun:", to]).fails(120, "names no path");
}

/// A container whose tar is the attacker's: what it sends must stay in the folder that was named.
#[test]
fn a_hostile_containers_archive_stays_in_the_folder() {
    let world = World::new();
    let out = world.dir.join("victim");
    fs::create_dir_all(out.join("in")).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind) in [("./d/a", tar::EntryType::Regular), ("./d/../../evil", tar::EntryType::Regular)] {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(4);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, &b"evil"[..]).unwrap();
    }
    fs::write(world.out().join("evil.tar"), archive.into_inner().unwrap()).unwrap();
    let script = format!("rm -f /bin/tar /usr/bin/tar; printf '#!/bin/sh\\nexec cat /v/evil.tar\\n' >/bin/tar; chmod 755 /bin/tar; {WAITS}");
    let mut hostile = pod("p", "crun", &[app(&script)]);
    common::with_volume(&mut hostile, &serde_json::json!({"hostPath": {"path": world.out()}}));
    world.detach(&[hostile]);
    // A link of this machine's own that stands in the way leads nowhere else.
    symlink(&world.dir, out.join("in/link")).unwrap();
    common::until("its tar is there", || world.call(&["exec", "p", "--", "test", "-x", "/bin/tar"]).code.filter(|c| *c == 0));
    world.call(&["cp", "p:/d", out.join("in/").to_str().unwrap()]).fails(120, "leads elsewhere");
    assert!(!out.join("evil").exists() && !world.dir.join("evil").exists());
    assert_eq!(names(&out), ["in"]);
}
