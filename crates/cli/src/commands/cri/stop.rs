//! How the daemon ends: SIGTERM or SIGINT make a future ready. SIGHUP has the configuration read again.

use crate::settings::Watcher;
use crate::show;
use anyhow::{Context as _, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
struct State {
    reached: bool,
    waker: Option<Waker>,
}

/// The end, for who brings it about.
#[derive(Debug, Clone, Default)]
pub(super) struct End(Arc<Mutex<State>>);

/// The end, for who waits for it.
#[derive(Debug)]
pub(super) struct Stop(End);

pub(super) fn pair() -> (Stop, End) {
    let end = End::default();
    (Stop(end.clone()), end)
}

impl End {
    fn reach(&self) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.reached = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn is_reached(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).reached
    }
}

impl Future for Stop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reached {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The daemon's signals, taken for as long as the process lives.
#[derive(Debug)]
pub(super) struct Signals {
    watcher: Arc<OnceLock<Watcher>>,
}

impl Signals {
    /// From now on SIGTERM and SIGINT reach `end`; who does not hear them is killed by the second.
    pub(super) fn take(end: End) -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let watcher = Arc::new(OnceLock::<Watcher>::new());
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals cannot be taken")?;
        let watched = watcher.clone();
        let listen = move || {
            for signal in signals.forever() {
                match (signal, watched.get()) {
                    (SIGHUP, Some(watcher)) => watcher.look_now(),
                    (SIGHUP, None) => {}
                    _ if end.is_reached() => {
                        show::tell("cofferdam: ended at once; the pods go on");
                        std::process::exit(crate::EXIT_ERROR.into());
                    }
                    _ => end.reach(),
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(listen)
            .context("signals cannot be taken")?;
        Ok(Self { watcher })
    }

    /// From now on SIGHUP has this one look.
    pub(super) fn on_reload(&self, watcher: Watcher) {
        // Called once.
        let _ = self.watcher.set(watcher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_heard_before_and_after_it_is_waited_for() {
        let mut context = Context::from_waker(Waker::noop());
        let (mut stop, end) = pair();
        assert_eq!(Pin::new(&mut stop).poll(&mut context), Poll::Pending);
        assert!(!end.is_reached());
        end.reach();
        assert_eq!(Pin::new(&mut stop).poll(&mut context), Poll::Ready(()));
        assert!(end.is_reached());
    }
}
