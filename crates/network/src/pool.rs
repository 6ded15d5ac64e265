//! Network namespaces made ahead: making one costs the kernel more than entering one. They are
//! descriptors and nothing else, no path leads to them, so that all of them are gone with the
//! process, however it ends.

use crate::attach::lo_up;
use crate::{Error, Result};
use cofferdam_host::netns;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Namespaces with `lo` up and nothing else in them. A thread of its own makes them anew as they
/// are taken; it is idle otherwise.
///
/// They belong to the machine's user namespace: a pod with a user namespace of its own cannot use
/// them, for the owner of a network namespace never changes.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    maker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<OwnedFd>,
    over: bool,
    /// Making one failed: whoever takes next makes its own, and gets the reason.
    failed: bool,
}

impl Pool {
    /// Keeps `size` of them ready. It returns at once.
    pub fn new(size: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            size,
        });
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("netns-pool".to_owned())
            .stack_size(64 << 10)
            .spawn(move || theirs.make());
        let maker = spawned.map_err(Error::netlink("start the thread that makes network namespaces"))?;
        Ok(Self {
            shared,
            maker: Some(maker),
        })
    }

    /// One that is ready, or else a new one.
    pub fn take(&self) -> Result<OwnedFd> {
        let ready = {
            let mut state = self.shared.lock();
            state.failed = false;
            state.ready.pop()
        };
        self.shared.changed.notify_all();
        ready.map_or_else(make_one, Ok)
    }

    /// One that is ready, if any: nobody is waited for.
    pub fn take_ready(&self) -> Option<OwnedFd> {
        let ready = self.shared.lock().ready.pop();
        self.shared.changed.notify_all();
        ready
    }

    /// How many are ready.
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        if let Some(maker) = self.maker.take() {
            // A maker that panicked has nothing to say to who drops the pool.
            let _ = maker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) {
        let mut state = self.lock();
        loop {
            if state.over {
                return;
            }
            if state.failed || state.ready.len() >= self.size {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            let made = make_one();
            state = self.lock();
            match made {
                Ok(namespace) => state.ready.push(namespace),
                Err(_) => state.failed = true,
            }
        }
    }
}

fn make_one() -> Result<OwnedFd> {
    let namespace = netns::create()?;
    lo_up(&namespace)?;
    Ok(namespace)
}
