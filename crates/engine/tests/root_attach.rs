//! Clients at a container's streams: terminals, input, several at a time, and again after one died. Needs
//! root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::ContainerId;
use cofferdam_monitor::client::{AttachReader, AttachStream};
use cofferdam_monitor::protocol::Frame;
use common::{SHARED, World};

/// Reads until `wanted` was seen.
#[track_caller]
fn read_until(reader: &mut AttachReader, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        match reader.next() {
            Some(Ok(Frame::Stdout(bytes) | Frame::Stderr(bytes))) => seen += &String::from_utf8_lossy(&bytes),
            other => panic!("{other:?} after {seen:?}, waiting for {wanted:?}"),
        }
    }
    seen
}

fn attach(world: &World, id: &ContainerId) -> AttachStream {
    world.engine.attach_container(id).unwrap()
}

#[test]
fn a_terminal_has_its_size_and_outlives_its_clients() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let id = world.start(&pod, "while read line; do echo \"got $line\"; stty size; done; echo over", |c| {
            (c.tty, c.stdin, c.stdin_once) = (true, true, false);
        });
        let mut first = attach(&world, &id);
        first.writer.resize(33, 99).unwrap();
        first.writer.stdin(b"one\n").unwrap();
        let seen = read_until(&mut first.reader, "33 99");
        assert!(seen.contains("got one"), "{handler}: {seen}");
        // Two at a time see the same, and either may write.
        let mut second = attach(&world, &id);
        second.writer.stdin(b"two\n").unwrap();
        read_until(&mut second.reader, "got two");
        read_until(&mut first.reader, "got two");
        // A client that dies, and one that leaves: the process goes on.
        drop(first);
        second.writer.detach();
        let mut third = attach(&world, &id);
        third.writer.stdin(b"three\n").unwrap();
        read_until(&mut third.reader, "got three");
        third.writer.stdin(b"\x04").unwrap();
        read_until(&mut third.reader, "over");
        let last = third.reader.by_ref().filter_map(Result::ok).last();
        assert!(matches!(last, Some(Frame::Exited(exit)) if exit.code == 0), "{handler}");
        let log = world.log(&world.ended(&id));
        assert!(log.contains("got one") && log.contains("got three"), "the log has all of it: {log}");
    }
}

#[test]
fn input_closes_once_where_asked() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        for once in [true, false] {
            let id = world.start(&pod, "cat; echo over", |c| (c.stdin, c.stdin_once) = (true, once));
            let mut client = attach(&world, &id);
            client.writer.stdin(b"hello\n").unwrap();
            read_until(&mut client.reader, "hello");
            drop(client);
            if !once {
                // It waits for another client, who closes it.
                let mut again = attach(&world, &id);
                again.writer.stdin(b"again\n").unwrap();
                read_until(&mut again.reader, "again");
                again.writer.close_stdin().unwrap();
                read_until(&mut again.reader, "over");
            }
            let log = world.log(&world.ended(&id));
            assert!(log.starts_with("hello\n") && log.ends_with("over\n"), "{handler}: {log}");
        }
        let none = world.start(&pod, "cat; echo over; exec sleep 1000", |_| {});
        let mut client = attach(&world, &none);
        // Without standard input it has none to wait for, and what is sent goes nowhere.
        client.writer.stdin(b"lost\n").unwrap();
        let status = world.engine.container_status(&none).unwrap();
        common::until("it reads nothing", || world.log(&status).contains("over").then_some(()));
        assert!(!world.log(&status).contains("lost"));
    }
}

#[test]
fn a_container_that_has_ended_takes_no_clients() {
    let world = World::new();
    let pod = world.pod("crun");
    let id = world.start(&pod, "true", |_| {});
    world.ended(&id);
    let why = world.engine.attach_container(&id).unwrap_err().to_string();
    assert!(why.contains("is not running"), "{why}");
}
