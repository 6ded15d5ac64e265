//! The images of one pod: pulled side by side before it starts, outside the right to start, so that a
//! slow registry holds back no other pod; and once more before a container is started again, where
//! its policy says so. How often: a pod that has not started is given up after a definite answer or
//! [`MAX_TRIES`](crate::MAX_TRIES); one that has started goes on trying, as the kubelet does.

use crate::image::{self, Need, REASON_BACKOFF, REASON_INSPECT, REASON_NAME, REASON_NEVER, REASON_PULL, Wanted};
use crate::next::Life;
use crate::pulls::Pulled;
use crate::start::MAX_TRIES;
use crate::words::go_duration;
use crate::worker::Worker;
use cofferdam_model::cri::PullRequest;
use std::time::Duration;

/// A pull that is under way, or waits to be tried again.
#[derive(Debug)]
pub(crate) struct Pull {
    image: String,
    /// The containers that wait for it.
    waiting: Vec<usize>,
    /// How often it failed.
    tries: u32,
    /// When it was asked for.
    asked: Duration,
    /// When it is tried again; `None` while it is under way.
    again: Option<Duration>,
    /// The pod has not started.
    first: bool,
}

impl Worker {
    /// Looks at the images before anything else of the pod. True where something is to be pulled; what
    /// must not be pulled and is not there is said by [`Worker::image_trouble`].
    pub(crate) fn look_for_images(&mut self) -> bool {
        let init = self.records.len();
        let mut present = std::collections::BTreeMap::new();
        for (index, wanted) in image::wanted(&self.setup.pod).into_iter().enumerate() {
            let here = match present.get(&wanted.image) {
                Some(here) => *here,
                None => match self.shared.runtime.image_status(&wanted.image) {
                    Ok(id) => *present.entry(wanted.image.clone()).or_insert(id.is_some()),
                    // Nothing is known of it: the runtime says it again when the container is made.
                    Err(_) => true,
                },
            };
            let user = Some(index).filter(|index| *index < init);
            match image::need(wanted.written, here) {
                Need::Nothing => user.into_iter().for_each(|index| self.records[index].image_ready = true),
                Need::Pull if !image::is_name(&wanted.image) => {
                    self.image_trouble.get_or_insert((REASON_NAME, image::no_name(&wanted.image)));
                }
                Need::Pull => self.want(wanted, user),
                Need::Forbidden => {
                    self.image_trouble.get_or_insert((REASON_NEVER, image::absent(&wanted.image)));
                }
            }
        }
        // What is not there and may not be fetched makes the rest needless.
        self.image_trouble.is_none() && !self.pulls.is_empty()
    }

    fn want(&mut self, wanted: Wanted, user: Option<usize>) {
        let (now, first) = (self.now(), self.sandbox.is_none());
        let found = self.pulls.iter().position(|p| p.image == wanted.image);
        let at = found.unwrap_or_else(|| {
            self.pulls.push(Pull {
                image: wanted.image,
                waiting: Vec::new(),
                tries: 0,
                asked: now,
                again: Some(now),
                first,
            });
            self.pulls.len() - 1
        });
        self.pulls[at].waiting.extend(user);
    }

    /// Pulls what the pod lacks, until all of it is there or the pod is given up.
    pub(crate) fn fetch(&mut self) {
        loop {
            let seen = self.control.bell.count();
            self.read_mail();
            let late = self.state.deadline.is_some_and(|deadline| self.now() >= deadline);
            if self.pulls.is_empty() || self.state.verdict.is_some() || late {
                return;
            }
            let due = self.pull();
            self.publish();
            let until = [due, self.state.deadline].into_iter().flatten().min();
            self.shared.clock.wait(&self.control.bell, seen, until);
        }
    }

    /// Whether the container at `index` may be made now as far as its image goes. If not, its image is
    /// asked for, and it waits.
    pub(crate) fn image_is_ready(&mut self, index: usize) -> bool {
        if self.records[index].image_ready {
            return true;
        }
        let container = self.container(index);
        let wanted = Wanted {
            image: container.image.clone(),
            written: container.image_pull_policy,
        };
        // A look that fails says nothing; the runtime says it again when the container is made.
        let here = self.shared.runtime.image_status(&wanted.image).map_or(true, |id| id.is_some());
        match image::need(wanted.written, here) {
            Need::Nothing => return true,
            Need::Pull if !image::is_name(&wanted.image) => self.hold(index, REASON_NAME, image::no_name(&wanted.image)),
            Need::Pull => {
                self.want(wanted, Some(index));
                self.state.containers[index].life = Life::Pulling;
            }
            Need::Forbidden => self.hold(index, REASON_NEVER, image::absent(&wanted.image)),
        }
        false
    }

    /// The container at `index` waits for somebody to mend something.
    fn hold(&mut self, index: usize, reason: &'static str, message: String) {
        let told = if reason == REASON_NAME { REASON_INSPECT } else { reason };
        self.event(true, told, message.clone());
        self.event(true, "Failed", format!("Error: {reason}"));
        self.records[index].waiting = Some((reason, message));
        self.state.containers[index].life = Life::Retry(self.now() + image::MAX_PULL_WAIT);
    }

    /// Asks for what is due. Returns when the next is.
    pub(crate) fn pull(&mut self) -> Option<Duration> {
        let now = self.now();
        let due: Vec<usize> = (0..self.pulls.len())
            .filter(|i| self.pulls[*i].again.is_some_and(|at| at <= now))
            .collect();
        if !due.is_empty() {
            let (docker_configs, missing) = image::credentials(&self.setup.pod, &self.shared.objects);
            if !missing.is_empty() {
                let missing = missing.join(", ");
                self.event(
                    true,
                    "FailedToRetrieveImagePullSecret",
                    format!("Unable to retrieve some image pull secrets ({missing}); attempting to pull the image may not succeed."),
                );
            }
            for index in due {
                let pull = &mut self.pulls[index];
                (pull.again, pull.asked) = (None, now);
                let image = pull.image.clone();
                self.event(false, "Pulling", format!("Pulling image {image:?}"));
                let request = PullRequest {
                    image,
                    docker_configs: docker_configs.clone(),
                };
                self.shared.pulls.ask(&self.shared, request, &self.control);
            }
        }
        self.pulls.iter().filter_map(|pull| pull.again).min()
    }

    /// A pull ended.
    pub(crate) fn pulled(&mut self, pulled: Pulled) {
        let Some(at) = self.pulls.iter().position(|p| p.image == pulled.image && p.again.is_none()) else {
            return;
        };
        let now = self.now();
        let image = &pulled.image;
        let err = match pulled.result {
            Ok(_) => {
                let pull = self.pulls.swap_remove(at);
                let (took, all) = (go_duration(pulled.took), go_duration(now.saturating_sub(pull.asked)));
                // Upstream's sentence ends with the image's size, which the runtime does not tell.
                self.event(
                    false,
                    "Pulled",
                    format!("Successfully pulled image {image:?} in {took} ({all} including waiting)"),
                );
                for index in pull.waiting {
                    (self.records[index].image_ready, self.records[index].waiting) = (true, None);
                    if self.state.containers[index].life == Life::Pulling {
                        self.state.containers[index].life = Life::Retry(now);
                    }
                }
                return;
            }
            Err(err) => err,
        };
        let reason = REASON_PULL;
        self.event(true, "Failed", format!("Failed to pull image {image:?}: {err}"));
        let pull = &mut self.pulls[at];
        pull.tries += 1;
        pull.again = Some(now + image::wait(pull.tries));
        let (first, tries, waiting) = (pull.first, pull.tries, pull.waiting.clone());
        self.wait_for_image(&waiting, reason, err.to_string());
        if first && (image::is_definite(&err) || tries >= MAX_TRIES) {
            let message = format!("Failed to pull image {image:?}: {err}");
            let message = if image::is_definite(&err) {
                message
            } else {
                format!("{message} ({tries} tries)")
            };
            self.pulls.clear();
            return self.give_up(reason, message);
        }
        self.event(true, "Failed", format!("Error: {reason}"));
        self.publish();
        self.event(false, "BackOff", format!("Back-off pulling image {image:?}"));
        self.event(true, "Failed", format!("Error: {REASON_BACKOFF}"));
        self.wait_for_image(
            &waiting,
            REASON_BACKOFF,
            format!("Back-off pulling image {image:?}: {reason}: {err}"),
        );
    }

    fn wait_for_image(&mut self, containers: &[usize], reason: &'static str, message: String) {
        for index in containers {
            self.records[*index].waiting = Some((reason, message.clone()));
        }
    }
}
