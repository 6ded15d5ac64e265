//! Connections whose clients have shown no token: so many at most, and the newest are kept.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Who waits, the oldest first.
#[derive(Debug)]
struct Line {
    next: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
}

/// The line of all connections.
#[derive(Debug)]
pub(crate) struct Waiting {
    most: usize,
    line: Arc<Mutex<Line>>,
}

/// A connection's place in it, left at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    line: Arc<Mutex<Line>>,
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    pub(crate) fn new(most: usize) -> Self {
        let line = Line {
            next: 0,
            tasks: VecDeque::new(),
        };
        Self {
            most,
            line: Arc::new(Mutex::new(line)),
        }
    }

    /// Runs a connection's task at the end of the line; where that is too long now, the first task is cut.
    pub(crate) fn spawn<T: Future<Output = ()> + Send + 'static>(&self, task: impl FnOnce(Place) -> T) {
        // Held until it is in the line, which it leaves by the same lock.
        let mut line = lock(&self.line);
        let number = line.next;
        line.next += 1;
        let place = Place {
            number,
            line: self.line.clone(),
        };
        let task = tokio::spawn(task(place));
        line.tasks.push_back((number, task.abort_handle()));
        let first = if line.tasks.len() > self.most {
            line.tasks.pop_front()
        } else {
            None
        };
        drop(line);
        if let Some((_, first)) = first {
            first.abort();
        }
    }
}

impl Place {
    /// It waits no more, and is not cut from here on.
    pub(crate) fn leave(&self) {
        let mut line = lock(&self.line);
        if let Ok(at) = line.tasks.binary_search_by_key(&self.number, |(number, _)| *number) {
            line.tasks.remove(at);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_is_cut_and_who_left_the_line_is_not() {
        let waiting = Waiting::new(2);
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..5 {
            let ended = ended.clone();
            waiting.spawn(|place| async move {
                if number == 1 {
                    place.leave();
                }
                // Dropped with the task.
                let _told = Told(number, ended);
                let _place = place;
                std::future::pending().await
            });
            tokio::task::yield_now().await;
        }
        assert_eq!((ends.recv().await, ends.recv().await), (Some(0), Some(2)));
        assert!(ends.try_recv().is_err());
        assert_eq!(lock(&waiting.line).tasks.len(), 2);
    }

    struct Told(u32, tokio::sync::mpsc::UnboundedSender<u32>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.1.send(self.0);
        }
    }
}
