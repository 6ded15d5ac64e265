//! A handler whose runtime can be made to wait, so that a test can look at a pod in the middle of its
//! start.

use super::{World, until};
use serde_json::{Value, json};
use std::fs;

/// runc, but for the waiting. While it lives, calls of the runtime wait.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    world: &'a World,
}

/// Name of the handler, and of its class.
pub(crate) const HELD: &str = "held";

impl<'a> Hold<'a> {
    /// Adds the handler, proves it, and makes it wait from then on.
    pub(crate) fn new(world: &'a World) -> Self {
        add(world);
        let proved = world.call(&["handlers", "-o", "json"]).good().json();
        let held = proved.as_array().unwrap().iter().find(|h| h["name"] == HELD).unwrap().clone();
        assert_eq!(held["unproved"], Value::Null, "{held}");
        Self::begin(world)
    }

    /// The same with a handler that is not proved yet: its proof waits, before any pod begins.
    pub(crate) fn of_the_proof(world: &'a World) -> Self {
        add(world);
        Self::begin(world)
    }

    fn begin(world: &'a World) -> Self {
        fs::write(world.dir.join("hold"), "").unwrap();
        Self { world }
    }

    /// Waits until the runtime waits.
    pub(crate) fn until_held(&self) {
        until("the runtime waits", || self.world.dir.join("waits").exists().then_some(()));
    }

    /// Lets everything go on.
    pub(crate) fn release(self) {}
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.world.dir.join("hold"));
    }
}

fn add(world: &World) {
    let dir = world.dir.display();
    let script =
        format!("#!/bin/sh\n[ -e {dir}/hold ] && echo > {dir}/waits\nwhile [ -e {dir}/hold ]; do sleep 0.02; done\nexec runc \"$@\"\n");
    let binary = world.script("runc-held", &script);
    world.drop_in("held.toml", &format!("[handlers.{HELD}]\nbinary = {binary:?}\n"));
}

/// The class of the handler.
pub(crate) fn class() -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": HELD}, "handler": HELD})
}
