//! One call of a verb, from its first byte to its answer.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::log::{Field, Level};
use crate::trace::context::Context;
use crate::trace::{Span, Value, rpc_attributes, service};
use crate::{Code, Inner, cut, nanos_now};

/// Stages of one call; more are counted with none.
const MOST_STAGES: usize = 64;
/// Attributes of one call, beside those of gRPC.
pub(crate) const MOST_ATTRIBUTES: usize = 32;
/// Longest value of an attribute or message, in bytes.
pub(crate) const MOST_VALUE: usize = 4096;

/// Names of attributes that also become fields of log lines.
pub mod attribute {
    /// Name of the pod; field `pod`.
    pub const POD: &str = "k8s.pod.name";
    /// Its namespace; field `namespace`.
    pub const NAMESPACE: &str = "k8s.namespace.name";
    /// Its uid; field `pod_uid`.
    pub const POD_UID: &str = "k8s.pod.uid";
    /// Id of the pod sandbox; field `sandbox`.
    pub const SANDBOX: &str = "cofferdam.sandbox.id";
    /// Name of the container; field `container`.
    pub const CONTAINER: &str = "k8s.container.name";
    /// Its id; field `container_id`.
    pub const CONTAINER_ID: &str = "container.id";
    /// Name of the image; field `image`.
    pub const IMAGE: &str = "container.image.name";

    /// Attribute and field.
    pub(crate) const FIELDS: [(&str, &str); 7] = [
        (POD, "pod"),
        (NAMESPACE, "namespace"),
        (POD_UID, "pod_uid"),
        (SANDBOX, "sandbox"),
        (CONTAINER, "container"),
        (CONTAINER_ID, "container_id"),
        (IMAGE, "image"),
    ];
}

/// The attribute of a span that names the handler; field `handler`.
const HANDLER: &str = "cofferdam.handler";

/// A call being worked on. Ending it counts it, times it, logs it where it failed or was slow, and makes its spans; dropped
/// without an end, it ends as cancelled by its caller.
#[must_use = "a call that is dropped counts as cancelled"]
pub struct Call {
    inner: Arc<Inner>,
    verb: &'static str,
    handler: String,
    began: Instant,
    /// Nanoseconds since 1970.
    began_at: u64,
    context: Option<Context>,
    parent: Option<Context>,
    stages: Vec<Stage>,
    attributes: Vec<(&'static str, String)>,
    dropped_attributes: u32,
    long: bool,
    ended: bool,
}

struct Stage {
    name: String,
    /// From the call's begin.
    start: Duration,
    took: Duration,
}

impl Call {
    pub(crate) fn begin(inner: Arc<Inner>, verb: &'static str, handler: &str, traceparent: Option<&str>) -> Self {
        let parent = traceparent.and_then(Context::parse);
        let context = inner.context(parent);
        inner.store.begin(verb);
        Self {
            inner,
            verb,
            handler: handler.to_owned(),
            began: Instant::now(),
            began_at: nanos_now(),
            context,
            parent,
            stages: vec![],
            attributes: vec![],
            dropped_attributes: 0,
            long: false,
            ended: false,
        }
    }

    /// Names the handler once it is known: of a container's verb, from the pod's record.
    pub fn handler(&mut self, handler: &str) {
        handler.clone_into(&mut self.handler);
    }

    /// Adds what the call is about; see [`attribute`] for the names that logs carry too. A later value of one name replaces
    /// the former.
    pub fn attribute(&mut self, name: &'static str, value: &str) {
        let value = cut(value, MOST_VALUE);
        if let Some((_, old)) = self.attributes.iter_mut().find(|(known, _)| *known == name) {
            value.clone_into(old);
        } else if self.attributes.len() < MOST_ATTRIBUTES {
            self.attributes.push((name, value.to_owned()));
        } else {
            self.dropped_attributes += 1;
        }
    }

    /// Adds a stage that was timed by the caller.
    pub fn stage(&mut self, name: &str, start: Instant, took: Duration) {
        if self.stages.len() < MOST_STAGES {
            self.stages.push(Stage {
                name: cut(name, 128).to_owned(),
                start: start.saturating_duration_since(self.began),
                took,
            });
        }
    }

    /// Adds stages, name and microseconds, which followed each other and ended now. Stages that cannot have fitted into the
    /// call are counted as they are told; their spans begin no earlier than the call's.
    pub fn stages<'a>(&mut self, stages: impl IntoIterator<Item = (&'a str, u64)>) {
        let stages: Vec<(&str, Duration)> = stages
            .into_iter()
            .take(MOST_STAGES)
            .map(|(name, micros)| (name, Duration::from_micros(micros)))
            .collect();
        let mut left = stages.iter().fold(Duration::ZERO, |sum, (_, took)| sum.saturating_add(*took));
        let now = self.began.elapsed();
        for (name, took) in stages {
            let start = now.saturating_sub(left);
            left = left.saturating_sub(took);
            if self.stages.len() < MOST_STAGES {
                self.stages.push(Stage {
                    name: cut(name, 128).to_owned(),
                    start,
                    took,
                });
            }
        }
    }

    /// Says that this call lasts as long as its caller likes (an exec, a stream of events), so that it is never slow.
    pub fn expect_long(&mut self) {
        self.long = true;
    }

    /// The id that collectors and logs know this call's trace by, where it has one.
    pub fn trace_id(&self) -> Option<String> {
        self.context.map(|context| context.trace_hex())
    }

    /// Ends the call: answered, or failed with a code and one sentence.
    pub fn end(mut self, outcome: Result<(), (Code, &str)>) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Result<(), (Code, &str)>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.began.elapsed();
        let code = outcome.err().map_or(Code::Ok, |(code, _)| code);
        let message = outcome.err().map_or("", |(_, message)| cut(message, MOST_VALUE));
        let stages = self.stages.iter().map(|stage| (stage.name.as_str(), stage.took));
        self.inner.store.end(self.verb, &self.handler, code, took, stages);
        self.log(code, message, took);
        if self.context.is_some_and(|context| context.sampled) {
            let spans = self.spans(code, message, took);
            self.inner.offer(spans);
        }
    }

    /// The one line that a call may leave: that it failed, that it was slow, or, at level debug, that it was.
    fn log(&self, code: Code, message: &str, took: Duration) {
        let slow = !self.long && self.inner.slow.is_some_and(|limit| took >= limit);
        let (level, what) = match code {
            Code::Ok if slow => (Level::Warn, format!("{} was slow", self.verb)),
            Code::Ok => (Level::Debug, format!("{} done", self.verb)),
            Code::Canceled => (Level::Info, format!("{} was cancelled", self.verb)),
            // A kubelet asks for what has gone in the ordinary course.
            Code::NotFound => (Level::Info, format!("{} found nothing", self.verb)),
            _ if code.is_fault() => (Level::Error, format!("{} failed", self.verb)),
            _ => (Level::Warn, format!("{} was refused", self.verb)),
        };
        if !self.inner.log.writes(level) {
            return;
        }
        let (millis, trace) = (format!("{:.1}", took.as_secs_f64() * 1e3), self.trace_id());
        let stages = if slow || level == Level::Debug {
            self.stages_text()
        } else {
            String::new()
        };
        let mut fields: Vec<Field<'_>> = vec![("verb", self.verb)];
        if code != Code::Ok {
            fields.extend([("code", code.name()), ("error", message)]);
        }
        fields.push(("handler", &self.handler));
        for (attribute, value) in &self.attributes {
            if let Some((_, field)) = attribute::FIELDS.iter().find(|(name, _)| name == attribute) {
                fields.push((field, value));
            }
        }
        fields.extend([
            ("duration_ms", millis.as_str()),
            ("stages", &stages),
            ("trace_id", trace.as_deref().unwrap_or_default()),
        ]);
        fields.retain(|(_, value)| !value.is_empty());
        self.inner.log.write(level, &what, &fields);
    }

    fn stages_text(&self) -> String {
        let mut out = String::new();
        for stage in &self.stages {
            let comma = if out.is_empty() { "" } else { "," };
            let _ = write!(out, "{comma}{}={:.1}ms", stage.name, stage.took.as_secs_f64() * 1e3);
        }
        out
    }

    /// The call's span, then its stages', each within it.
    fn spans(&mut self, code: Code, message: &str, took: Duration) -> Vec<Span> {
        let Some(context) = self.context else {
            return vec![];
        };
        let at = |since: Duration| {
            self.began_at
                .saturating_add(u64::try_from(since.min(took).as_nanos()).unwrap_or(u64::MAX))
        };
        let mut attributes = rpc_attributes(self.verb, code);
        if !self.handler.is_empty() {
            attributes.push((HANDLER.to_owned(), Value::Text(self.handler.clone())));
        }
        attributes.extend(self.attributes.drain(..).map(|(name, value)| (name.to_owned(), Value::Text(value))));
        let call = Span {
            context,
            parent: self.parent.map(|parent| parent.span),
            remote: self.parent.is_some(),
            server: true,
            name: format!("{}/{}", service(self.verb), self.verb),
            start: self.began_at,
            end: at(took),
            attributes,
            dropped_attributes: self.dropped_attributes,
            events: vec![],
            dropped_events: 0,
            failure: code.is_fault().then(|| message.to_owned()),
        };
        let stages = self.stages.iter().map(|stage| Span {
            context: context.child(),
            parent: Some(context.span),
            remote: false,
            server: false,
            name: stage.name.clone(),
            start: at(stage.start),
            end: at(stage.start.saturating_add(stage.took)),
            attributes: vec![],
            dropped_attributes: 0,
            events: vec![],
            dropped_events: 0,
            failure: None,
        });
        std::iter::once(call).chain(stages).collect()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.close(Err((Code::Canceled, "the caller went away")));
    }
}
