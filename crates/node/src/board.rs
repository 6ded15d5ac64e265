//! What is seen of all pods of a start, and who looks.

use crate::clock::lock;
use crate::status::PodView;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Debug, Default)]
struct Inner {
    views: Vec<Arc<PodView>>,
    watchers: Vec<Sender<Arc<PodView>>>,
}

/// The views of the pods, in the order of the manifest.
#[derive(Debug, Default)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    ended: Condvar,
}

impl Board {
    pub(crate) fn new(views: Vec<PodView>) -> Self {
        let views = views.into_iter().map(Arc::new).collect();
        Self {
            inner: Mutex::new(Inner {
                views,
                watchers: Vec::new(),
            }),
            ended: Condvar::new(),
        }
    }

    /// Puts `view` up, where it says something new.
    pub(crate) fn put(&self, index: usize, view: PodView) {
        let mut inner = lock(&self.inner);
        if *inner.views[index] == view {
            return;
        }
        let view = Arc::new(view);
        inner
            .watchers
            .retain(|watcher| watcher.send(view.clone()).is_ok());
        if view.ended {
            self.ended.notify_all();
        }
        inner.views[index] = view;
    }

    pub(crate) fn get(&self, index: usize) -> Arc<PodView> {
        lock(&self.inner).views[index].clone()
    }

    pub(crate) fn all(&self) -> Vec<Arc<PodView>> {
        lock(&self.inner).views.clone()
    }

    pub(crate) fn watch(&self) -> Receiver<Arc<PodView>> {
        let (sender, receiver) = channel();
        lock(&self.inner).watchers.push(sender);
        receiver
    }

    pub(crate) fn wait_all(&self) -> Vec<Arc<PodView>> {
        let inner = lock(&self.inner);
        let inner = self
            .ended
            .wait_while(inner, |inner| inner.views.iter().any(|view| !view.ended));
        inner.unwrap_or_else(PoisonError::into_inner).views.clone()
    }
}
