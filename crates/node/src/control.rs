//! How the rest of the node speaks to a pod's worker: a mailbox, and a stop that may be hurried.

use crate::change::ResizeRequest;
use crate::clock::{Bell, Clock, lock};
use crate::hook::Done;
use crate::probe::{Kind, Outcome};
use crate::pulls::Pulled;
use crate::stop::Trouble;
use cofferdam_model::ContainerId;
use cofferdam_model::cri::Runtime;
use cofferdam_model::pod::EphemeralContainer;
use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What is answered for a pod that takes no changes any more.
pub(crate) const OVER: &str = "the pod is being ended, or is over";

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A container ended with this code.
    Exited(ContainerId, i32),
    /// The sandbox died, and why.
    SandboxDied(String),
    /// The postStart hook of this container ended.
    HookDone(ContainerId, Done),
    /// A try of a probe of this container ended.
    Probed(ContainerId, Kind, Outcome),
    /// This container, and not its pod, was ended.
    Killed(ContainerId, Vec<Trouble>),
    /// A pull that this pod waits for ended.
    Pulled(Pulled),
    /// A container is to be added.
    AddEphemeral(Box<EphemeralContainer>, Sender<Result<(), String>>),
    /// A container is to have other resources.
    Resize(Box<ResizeRequest>, Sender<Result<(), String>>),
}

#[derive(Debug, Default)]
struct Inner {
    mail: VecDeque<Message>,
    /// A stop was asked for; with its grace, where one was given.
    stop: Option<Option<Duration>>,
    /// Set while the pod's containers are being ended: when the patience ends, and who still runs.
    until: Option<Duration>,
    live: Vec<ContainerId>,
    /// Nobody reads mail any more.
    deaf: bool,
}

/// One worker's mailbox.
#[derive(Debug, Default)]
pub(crate) struct Control {
    inner: Mutex<Inner>,
    pub(crate) bell: Arc<Bell>,
}

impl Control {
    pub(crate) fn send(&self, message: Message) {
        let mut inner = lock(&self.inner);
        if !inner.deaf {
            inner.mail.push_back(message);
        }
        drop(inner);
        self.bell.ring();
    }

    /// Sends a message that is answered, and waits for the answer.
    pub(crate) fn ask(&self, message: impl FnOnce(Sender<Result<(), String>>) -> Message) -> Result<(), String> {
        let (sender, answer) = channel();
        self.send(message(sender));
        answer.recv().unwrap_or_else(|_| Err(OVER.to_owned()))
    }

    /// From now on no message is read; who waits for an answer is told so.
    pub(crate) fn stop_reading(&self) {
        let mut inner = lock(&self.inner);
        inner.deaf = true;
        let unread = std::mem::take(&mut inner.mail);
        drop(inner);
        drop(unread);
        self.bell.ring();
    }

    pub(crate) fn take(&self) -> Option<Message> {
        lock(&self.inner).mail.pop_front()
    }

    /// Asks for the pod's end. Where it is being ended already, a shorter grace takes effect at once.
    pub(crate) fn stop(&self, grace: Option<Duration>, clock: &dyn Clock, runtime: &dyn Runtime) {
        let mut inner = lock(&self.inner);
        inner.stop = Some(match (inner.stop.flatten(), grace) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => new.or(old),
        });
        let sooner = grace.map(|grace| (grace, clock.now() + grace));
        let mut live = Vec::new();
        if let (Some((_, sooner)), Some(until)) = (sooner, inner.until)
            && sooner < until
        {
            inner.until = Some(sooner);
            live.clone_from(&inner.live);
        }
        drop(inner);
        self.bell.ring();
        for container in live {
            // The worker's own call reports what goes wrong; this one only makes it end sooner.
            let _ = runtime.stop_container(&container, grace.unwrap_or_default());
        }
    }

    pub(crate) fn stop_asked(&self) -> Option<Option<Duration>> {
        lock(&self.inner).stop
    }

    /// From now on [`Self::stop`] hurries those in `live`.
    pub(crate) fn begin_end(&self, until: Duration, live: Vec<ContainerId>) {
        let mut inner = lock(&self.inner);
        inner.until = Some(until);
        inner.live = live;
    }

    /// When the patience ends.
    pub(crate) fn until(&self) -> Duration {
        lock(&self.inner).until.unwrap_or_default()
    }

    /// This container has ended: nobody hurries it any more.
    pub(crate) fn gone(&self, container: &ContainerId) {
        lock(&self.inner).live.retain(|id| id != container);
        self.bell.ring();
    }

    /// Whether mail is not read any more: the pod is being ended.
    pub(crate) fn is_deaf(&self) -> bool {
        lock(&self.inner).deaf
    }

}

/// Lets so many pods start at once, in the order of their tickets. Who has something to fetch first steps
/// aside, and comes in when there is room.
#[derive(Debug)]
pub(crate) struct Gate {
    most: usize,
    state: Mutex<Turns>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    /// The next ticket to be let in.
    next: usize,
    /// How many are inside.
    inside: usize,
    /// Later tickets that are not waited for.
    aside: BTreeSet<usize>,
}

impl Turns {
    fn pass(&mut self, ticket: usize) {
        self.aside.insert(ticket);
        while self.aside.remove(&self.next) {
            self.next += 1;
        }
    }
}

impl Gate {
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), state: Mutex::default(), moved: Condvar::new() }
    }

    /// Waits for this ticket's turn, and for room.
    pub(crate) fn enter(self: &Arc<Self>, ticket: usize) -> Permit {
        self.come_in(|turns| turns.next >= ticket, Some(ticket))
    }

    /// This ticket has no turn any more.
    pub(crate) fn step_aside(&self, ticket: usize) {
        lock(&self.state).pass(ticket);
        self.moved.notify_all();
    }

    /// Waits for room: for one that has stepped aside.
    pub(crate) fn enter_late(self: &Arc<Self>) -> Permit {
        self.come_in(|_| true, None)
    }

    fn come_in(self: &Arc<Self>, turn: impl Fn(&Turns) -> bool, ticket: Option<usize>) -> Permit {
        let wait = |turns: &mut Turns| !turn(turns) || turns.inside >= self.most;
        let mut turns = self.moved.wait_while(lock(&self.state), wait).unwrap_or_else(PoisonError::into_inner);
        turns.inside += 1;
        ticket.into_iter().for_each(|ticket| turns.pass(ticket));
        drop(turns);
        self.moved.notify_all();
        Permit(self.clone())
    }
}

/// The right to start; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.0.state).inside -= 1;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_steps_aside_holds_nobody_back_and_comes_in_late() {
        let gate = Arc::new(Gate::new(2));
        gate.step_aside(0);
        gate.step_aside(2);
        let one = gate.enter(1);
        let three = gate.enter(3);
        assert_eq!(lock(&gate.state).next, 4);
        assert_eq!(lock(&gate.state).inside, 2);
        drop(one);
        let late = gate.enter_late();
        assert_eq!(lock(&gate.state).inside, 2);
        drop((three, late));
        assert_eq!(lock(&gate.state).inside, 0);
    }

    #[test]
    fn who_asks_one_that_reads_no_more_is_told_so() {
        let control = Control::default();
        control.stop_reading();
        let asked = control.ask(|sender| Message::AddEphemeral(Box::default(), sender));
        assert_eq!(asked, Err("the pod is being ended, or is over".to_owned()));
    }
}
