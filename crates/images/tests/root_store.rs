//! The store over time: names, removal, several processes, and processes that are killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use cofferdam_images::{Digest, Error, Input, LoadOptions, Progress, Stage, Store};
use common::*;
use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const NOBODY: &dyn Fn(&Digest) -> Option<String> = &|_| None;

fn archive(layers: &[&str], tags: &[&str]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|name| Layer::new().file(name, name.as_bytes()).end())
        .collect();
    docker_archive(&config(&layers, ""), &layers, tags)
}

#[test]
fn images_are_found_by_name_and_by_id() {
    let fixture = Fixture::new();
    let image = fixture
        .load(&archive(&["a"], &["busybox:1"]))
        .unwrap()
        .remove(0)
        .image;
    let id = image.id.to_string();
    for text in [
        "busybox:1",
        "docker.io/library/busybox:1",
        &id,
        image.id.hex(),
        image.id.short(),
        &id[..15],
        &image.id.hex()[..8],
    ] {
        assert_eq!(fixture.store.resolve(text).unwrap(), image, "{text}");
    }
    for text in [
        "busybox",
        "busybox:2",
        "x/busybox:1",
        &image.id.hex()[..7],
        "00000000",
        Digest::of(b"x").hex(),
    ] {
        let error = fixture.store.resolve(text).unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{text}: {error}");
    }
    assert!(matches!(
        fixture.store.resolve("Not a name"),
        Err(Error::Reference { .. })
    ));
}

#[test]
fn a_beginning_that_fits_two_ids_names_neither() {
    let fixture = Fixture::new();
    // Records are all that counts for a beginning; these two differ in the last digit only.
    let image = fixture.load(&archive(&["a"], &[])).unwrap().remove(0).image;
    let mut other = image.id.hex().to_owned();
    let last = if other.ends_with('0') { '1' } else { '0' };
    other.replace_range(63.., &last.to_string());
    let path = |hex: &str| fixture.root().join(format!("images/{hex}.json"));
    let record = fs::read_to_string(path(image.id.hex())).unwrap();
    fs::write(path(&other), record.replacen(image.id.hex(), &other, 1)).unwrap();
    assert!(
        matches!(fixture.store.resolve(image.id.short()), Err(Error::Ambiguous { fits, .. }) if fits.len() == 2)
    );
    assert_eq!(fixture.store.resolve(image.id.hex()).unwrap().id, image.id);
}

#[test]
fn a_name_moves_to_the_image_loaded_last() {
    let fixture = Fixture::new();
    let old = fixture
        .load(&archive(&["a"], &["x"]))
        .unwrap()
        .remove(0)
        .image;
    let new = fixture
        .load(&archive(&["b"], &["x"]))
        .unwrap()
        .remove(0)
        .image;
    assert_eq!(fixture.store.resolve("x").unwrap().id, new.id);
    let list = fixture.store.list().unwrap();
    assert_eq!(
        list.iter()
            .map(|i| (&i.id, i.names.len()))
            .collect::<Vec<_>>(),
        [(&new.id, 1), (&old.id, 0)]
    );
}

#[test]
fn removal_takes_names_then_the_image_then_its_layers() {
    let fixture = Fixture::new();
    let one = fixture
        .load(&archive(&["base", "one"], &["one:1", "one:2"]))
        .unwrap()
        .remove(0)
        .image;
    fixture.load(&archive(&["base", "two"], &["two"])).unwrap();
    assert_eq!(
        (
            fixture.names_in("layers").len(),
            fixture.names_in("l").len(),
            fixture.names_in("blobs/sha256").len()
        ),
        (3, 3, 5),
        "two configurations and the content of three layers"
    );

    let used = |id: &Digest| (*id == one.id).then(|| "pod default/web".to_owned());
    let removed = fixture.store.remove("one:1", &used).unwrap();
    assert_eq!(
        (removed.names, removed.image),
        (vec!["docker.io/library/one:1".to_owned()], None)
    );
    for text in ["one:2", one.id.hex()] {
        let error = fixture.store.remove(text, &used).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("image {text} is in use by pod default/web: stop and remove that first")
        );
    }
    let removed = fixture.store.remove(one.id.short(), NOBODY).unwrap();
    assert_eq!(
        (removed.names.len(), removed.image),
        (1, Some(one.id.clone()))
    );
    assert!(matches!(
        fixture.store.remove("one:2", NOBODY),
        Err(Error::NotFound(_))
    ));
    assert_eq!(
        (
            fixture.names_in("layers").len(),
            fixture.names_in("l").len(),
            fixture.names_in("blobs/sha256").len()
        ),
        (2, 2, 3),
        "two shares the base"
    );
    let two = fixture.store.resolve("two").unwrap();
    assert_eq!(fixture.in_overlay(&two, "cat base two"), "basetwo");

    fixture.store.remove("two", NOBODY).unwrap();
    for dir in ["layers", "l", "images", "tmp", "blobs/sha256"] {
        assert!(fixture.names_in(dir).is_empty(), "{dir}");
    }
}

#[test]
fn an_image_without_layers_has_an_empty_root() {
    let fixture = Fixture::new();
    let image = fixture
        .load(&docker_archive(&config(&[], ""), &[], &["scratch"]))
        .unwrap()
        .remove(0)
        .image;
    assert_eq!(fixture.in_overlay(&image, "ls -A | wc -l"), "0\n");
    assert_eq!(fixture.store.user(&image, "").unwrap().home, "/");
}

#[test]
fn progress_covers_every_stage() {
    struct Seen(RefCell<Vec<(Stage, u64, Option<u64>)>>);
    impl Progress for Seen {
        fn progress(&self, stage: &Stage, done: u64, total: Option<u64>) {
            let mut seen = self.0.borrow_mut();
            seen.retain(|(other, ..)| other != stage);
            seen.push((stage.clone(), done, total));
        }
    }
    let archive = archive(&["a", "b"], &[]);
    let seen = Seen(RefCell::default());
    Fixture::new()
        .store
        .load(
            Input::Stream(&mut &archive[..]),
            &LoadOptions::default(),
            &seen,
        )
        .unwrap();
    let layer = |number| Stage::Layer { number, count: 2 };
    let want = [
        (Stage::Spool, archive.len() as u64, None),
        (layer(1), 2048, Some(2048)),
        (layer(2), 2048, Some(2048)),
        (Stage::Commit, 0, None),
    ];
    assert_eq!(*seen.0.borrow(), want);
}

#[test]
fn a_layer_that_is_gone_is_said_so_and_comes_back() {
    let fixture = Fixture::new();
    let archive = archive(&["a"], &["x"]);
    let image = fixture.load(&archive).unwrap().remove(0).image;
    let layer = image.layers[0].parent().unwrap().to_path_buf();
    fs::remove_dir_all(&layer).unwrap();
    assert!(
        fixture
            .store
            .lower_dirs(&image)
            .unwrap_err()
            .to_string()
            .contains("load the image again")
    );
    fixture.load(&archive).unwrap();
    assert_eq!(fixture.in_overlay(&image, "cat a"), "a");
    // A damaged configuration comes back too, and is never used.
    let blob = fixture.root().join("blobs/sha256").join(image.id.hex());
    fs::write(&blob, "{}").unwrap();
    assert!(
        fixture
            .store
            .resolve("x")
            .unwrap_err()
            .to_string()
            .contains("is damaged")
    );
    fixture.load(&archive).unwrap();
    assert_eq!(fixture.store.resolve("x").unwrap(), image);
}

#[test]
fn a_record_that_cannot_be_read_is_put_aside_and_keeps_its_layers() {
    let fixture = Fixture::new();
    let image = fixture
        .load(&archive(&["a"], &["x"]))
        .unwrap()
        .remove(0)
        .image;
    fixture.load(&archive(&["b"], &["y"])).unwrap();
    fs::write(
        fixture
            .root()
            .join(format!("images/{}.json", image.id.hex())),
        "{",
    )
    .unwrap();
    let store = Store::open(&fixture.root()).unwrap();
    assert_eq!(store.problems().len(), 1);
    assert!(
        store.problems()[0].contains(image.id.hex()) && store.problems()[0].contains("put aside"),
        "{:?}",
        store.problems()
    );
    assert_eq!(store.list().unwrap().len(), 1);
    store.remove("y", NOBODY).unwrap();
    assert_eq!(
        fixture.names_in("layers").len(),
        2,
        "nothing is removed while it is not known what is needed"
    );
    let again = Store::open(&fixture.root()).unwrap();
    assert_eq!(again.problems().len(), 1, "it is said until it is repaired");
    fs::remove_file(
        fixture
            .root()
            .join(format!("images/{}.json.unreadable", image.id.hex())),
    )
    .unwrap();
    assert!(Store::open(&fixture.root()).unwrap().problems().is_empty());
    assert!(fixture.names_in("layers").is_empty());
}

#[test]
fn many_load_and_remove_at_once() {
    let fixture = Fixture::new();
    let root = fixture.root();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let root = &root;
            scope.spawn(move || {
                let store = Store::open_with(root, Default::default(), amd64()).unwrap();
                for round in 0..6 {
                    let name = format!("own{i}");
                    let archive =
                        archive(&["base", &format!("{}", i % 2), &name], &[&name, "shared"]);
                    store
                        .load(
                            Input::Stream(&mut &archive[..]),
                            &LoadOptions::default(),
                            &(),
                        )
                        .unwrap();
                    let image = store.resolve(&name).unwrap();
                    assert_eq!(store.lower_dirs(&image).unwrap().len(), 3);
                    assert_eq!(fs::read(image.layers[0].join("base")).unwrap(), b"base");
                    if round < 5 {
                        store.remove(image.id.hex(), NOBODY).unwrap();
                    }
                }
            });
        }
    });
    let store = Store::open(&root).unwrap();
    assert_eq!(store.list().unwrap().len(), 8);
    assert_eq!(fixture.names_in("layers").len(), 1 + 2 + 8);
    assert_eq!(fixture.names_in("l").len(), 11);
    assert!(fixture.names_in("tmp").is_empty());
}

/// Is the child of the next test: loads what comes on its standard input.
#[test]
fn child_that_loads() {
    let Ok(root) = std::env::var("COFFERDAM_TEST_STORE") else {
        return;
    };
    let store = Store::open(root.as_ref()).unwrap();
    store
        .load(
            Input::Stream(&mut std::io::stdin()),
            &LoadOptions::default(),
            &(),
        )
        .unwrap();
}

#[test]
fn what_a_killed_process_leaves_goes_and_what_a_living_one_has_stays() {
    let fixture = Fixture::new();
    fixture.load(&archive(&["base"], &["keep"])).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_loads", "--nocapture"])
        .env("COFFERDAM_TEST_STORE", fixture.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(&archive(&["base", "new"], &["new"])[..4096])
        .unwrap();
    while fixture.names_in("tmp").is_empty() {
        std::thread::yield_now();
    }
    // While it loads: an opener leaves its things alone, and a removal leaves layers for later.
    let store = Store::open(&fixture.root()).unwrap();
    assert_eq!(fixture.names_in("tmp").len(), 1);
    store.remove("keep", NOBODY).unwrap();
    assert_eq!(
        (
            fixture.names_in("layers").len(),
            fixture.names_in("images").len()
        ),
        (1, 0)
    );
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    Store::open(&fixture.root()).unwrap();
    for dir in ["layers", "l", "images", "tmp", "blobs/sha256"] {
        assert!(fixture.names_in(dir).is_empty(), "{dir}");
    }
}

#[test]
fn half_made_layers_and_links_go_when_the_store_is_opened() {
    let fixture = Fixture::new();
    let image = fixture
        .load(&archive(&["a"], &["x"]))
        .unwrap()
        .remove(0)
        .image;
    let root = fixture.root();
    fs::create_dir_all(root.join("layers").join("f".repeat(64)).join("tree/d")).unwrap();
    std::os::unix::fs::symlink("../layers/none/tree", root.join("l/aaaaaaaaaa")).unwrap();
    fs::write(root.join("blobs/sha256").join("f".repeat(64)), "x").unwrap();
    fs::write(root.join("tmp/record"), "x").unwrap();
    fs::create_dir(root.join("tmp/just-made")).unwrap();
    fs::create_dir_all(root.join("tmp/dir/layer/tree")).unwrap();
    fs::create_dir_all(root.join("tmp/dir/trash/0")).unwrap();
    Store::open(&root).unwrap();
    assert_eq!(
        (
            fixture.names_in("layers").len(),
            fixture.names_in("l").len(),
            fixture.names_in("blobs/sha256").len()
        ),
        (1, 1, 2)
    );
    assert!(
        fixture.names_in("tmp").is_empty(),
        "{:?}",
        fixture.names_in("tmp")
    );
    assert_eq!(fixture.in_overlay(&image, "cat a"), "a");
}

#[test]
fn short_names_that_collide_give_way() {
    let fixture = Fixture::new();
    let first = fixture
        .load(&archive(&["a"], &["x"]))
        .unwrap()
        .remove(0)
        .image;
    let taken = fixture.store.lower_dirs(&first).unwrap().remove(0);
    fixture.store.remove("x", NOBODY).unwrap();
    // Somebody made another layer with the same ten characters.
    let other = fixture
        .load(&archive(&["b"], &["y"]))
        .unwrap()
        .remove(0)
        .image;
    std::os::unix::fs::symlink("../layers/other/tree", &taken).unwrap();
    let again = fixture
        .load(&archive(&["a"], &["x"]))
        .unwrap()
        .remove(0)
        .image;
    let now = fixture.store.lower_dirs(&again).unwrap().remove(0);
    assert_ne!(now, taken);
    assert_eq!(
        (
            fixture.in_overlay(&again, "cat a"),
            fixture.in_overlay(&other, "cat b")
        ),
        ("a".to_owned(), "b".to_owned())
    );
    let mut text = String::new();
    fs::File::open(now.join("a"))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "a");
}
