//! Metrics, spans, logs and health of the daemon.
//!
//! Everything is written out here rather than taken from `opentelemetry` or `prometheus-client`: OTLP's messages are a
//! page, sent by `ureq`, which pulls already need, or over `h2`, which the CRI server does; the two text formats of metrics
//! (prometheus-client writes one of them) are another, and an idle daemon has 25 MiB.
//!
//! - [`Telemetry`] is started once and cloned freely.
//! - [`Call`] is one call of a verb: counted, timed by stage, traced, and logged where it failed or was slow.
//! - [`Work`] is what nobody called for: the daemon's start, its recovery, a clean-up tried again.
//! - [`Log`] writes events of everything else.

mod call;
mod code;
mod error;
mod health;
mod limited;
mod log;
mod metrics;
mod serve;
#[cfg(test)]
mod tests;
mod trace;
mod work;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use call::{Call, attribute};
pub use code::Code;
pub use error::Error;
pub use log::{Field, Level, Log, LogFormat};
pub use metrics::Gauges;
pub use trace::protocol::Protocol;
pub use work::Work;

use health::Health;
use limited::Limited;
use metrics::text::Format;
use serve::{Answer, Server};
use trace::Span;
use trace::context::Context;
use trace::export::Exporter;
use trace::settings::Environment;

/// Where metrics and health are served unless told otherwise: on loopback.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9790);
/// A successful call that takes longer is logged with its stages, unless told otherwise.
pub const DEFAULT_SLOW: Duration = Duration::from_secs(10);
/// The engine must answer a scrape within this time.
const GAUGES_LIMIT: Duration = Duration::from_secs(2);

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Version of the daemon.
    pub version: String,
    /// Where to serve `/metrics`, `/healthz` and `/readyz`; nowhere if `None`. Whoever can reach it can read it.
    pub listen: Option<SocketAddr>,
    /// URL of an OTLP collector: of its gRPC port, or the base of its HTTP port. `None` leaves it to OpenTelemetry's
    /// environment variables, and without them there are no spans.
    pub otlp: Option<String>,
    /// What is spoken there; `None` leaves it to the environment, then to `http/protobuf`.
    pub otlp_protocol: Option<Protocol>,
    /// Part of the traces without a parent that are kept, 0 to 1; `None` leaves it to the environment, then to 1.
    pub ratio: Option<f64>,
    /// How log lines look.
    pub format: LogFormat,
    /// What is logged.
    pub level: Level,
    /// A successful call that takes longer is logged with its stages.
    pub slow: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: String::new(),
            listen: None,
            otlp: None,
            otlp_protocol: None,
            ratio: None,
            format: LogFormat::Text,
            level: Level::Info,
            slow: Some(DEFAULT_SLOW),
        }
    }
}

/// The daemon's telemetry. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
    server: Option<Arc<Server>>,
}

/// What calls and scrapes share.
pub(crate) struct Inner {
    version: String,
    slow: Option<Duration>,
    pub(crate) store: metrics::store::Store,
    pub(crate) log: Log,
    health: Health,
    gauges: Mutex<Option<Arc<Limited<Gauges>>>>,
    exporter: Option<Exporter>,
    server: Mutex<std::sync::Weak<Server>>,
}

impl Telemetry {
    /// Starts what the options and the environment ask for: the server of metrics and health, and the export of spans.
    ///
    /// # Errors
    /// An address that cannot be bound, an endpoint or ratio that is none, certificates that cannot be read. A wrong
    /// environment variable is logged and passed over.
    pub fn start(options: Options) -> Result<Self, Error> {
        let log = Log::new(options.format, options.level);
        Self::start_with(options, log, &|name| std::env::var(name).ok())
    }

    pub(crate) fn start_with(options: Options, log: Log, environment: Environment<'_>) -> Result<Self, Error> {
        let (settings, complaints) = trace::settings::resolve(options.otlp.as_deref(), options.otlp_protocol, options.ratio, environment)?;
        for complaint in complaints {
            log.warn(&complaint, &[]);
        }
        let exporter = settings
            .map(|settings| Exporter::start(settings, &options.version, log.clone()))
            .transpose()?;
        let inner = Arc::new(Inner {
            version: options.version,
            slow: options.slow,
            store: metrics::store::Store::default(),
            log: log.clone(),
            health: Health::default(),
            gauges: Mutex::default(),
            exporter,
            server: Mutex::default(),
        });
        let Some(address) = options.listen else {
            return Ok(Self { inner, server: None });
        };
        let answering = inner.clone();
        let server = Arc::new(Server::start(
            address,
            Arc::new(move |path, accept| answering.answer(path, accept)),
            log,
        )?);
        *lock(&inner.server) = Arc::downgrade(&server);
        Ok(Self {
            inner,
            server: Some(server),
        })
    }

    /// Begins a call. `handler` is empty where the verb has none or it is not known yet; `traceparent` is the caller's W3C
    /// header, which counts as absent where it breaks the rules.
    pub fn call(&self, verb: &'static str, handler: &str, traceparent: Option<&str>) -> Call {
        Call::begin(self.inner.clone(), verb, handler, traceparent)
    }

    /// Begins work that nobody called for.
    pub fn work(&self, name: &'static str) -> Work {
        Work::begin(self.inner.clone(), name)
    }

    /// Names the configured handlers; they become label values, any other is `unknown`. To be called again whenever the
    /// configuration changes.
    pub fn set_handlers<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.inner.store.set_handlers(names);
    }

    /// Sets who is asked at each scrape for what is there now. It may take two seconds; a scrape goes on without it.
    pub fn set_gauges(&self, gauges: impl Fn() -> Gauges + Send + Sync + 'static) {
        *lock(&self.inner.gauges) = Some(Arc::new(Limited::new(GAUGES_LIMIT, gauges)));
    }

    /// Adds a check of `/healthz` and `/readyz`: what it returns as error is one sentence. One that takes longer than its
    /// limit fails, and is not run a second time until the first has ended.
    pub fn health_check(&self, name: &str, limit: Duration, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.inner.health.add(name, false, limit, check);
    }

    /// Adds a check of `/readyz` alone.
    pub fn ready_check(&self, name: &str, limit: Duration, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.inner.health.add(name, true, limit, check);
    }

    /// Says whether the daemon is past its start and takes calls; `/readyz` fails until then.
    pub fn set_ready(&self, ready: bool) {
        self.inner.health.set_ready(ready);
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// Where metrics and health are served; the port is the real one where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(|server| server.address())
    }

    /// Stops serving, sends what spans wait for at most so long, and tells of log lines held back.
    pub fn shutdown(&self, limit: Duration) {
        if let Some(server) = &self.server {
            server.shutdown();
        }
        if let Some(exporter) = &self.inner.exporter {
            exporter.shutdown(limit);
        }
        self.inner.log.flush();
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Telemetry")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Where a call stands in a trace. Without an exporter, a caller's trace still names the call in the log.
    pub(crate) fn context(&self, parent: Option<Context>) -> Option<Context> {
        let Some(exporter) = &self.exporter else {
            return parent.map(|parent| Context { sampled: false, ..parent });
        };
        let (parent_based, ratio) = exporter.sampling();
        Some(match parent {
            Some(parent) if parent_based => parent.child(),
            Some(parent) => Context {
                sampled: parent.kept(ratio),
                ..parent.child()
            },
            None => Context::root(ratio),
        })
    }

    pub(crate) fn offer(&self, spans: Vec<Span>) {
        if let Some(exporter) = &self.exporter {
            exporter.offer(spans);
        }
    }

    fn answer(&self, path: &str, accept: &str) -> Answer {
        match path {
            "/metrics" => {
                let format = Format::of_accept(accept);
                Answer {
                    status: 200,
                    content_type: format.content_type(),
                    body: self.scrape(format),
                }
            }
            "/healthz" => Self::verdict(self.health.failing(false)),
            "/readyz" => Self::verdict(self.health.failing(true)),
            _ => Answer::text(404, "here are /metrics, /healthz and /readyz\n"),
        }
    }

    fn verdict(failing: String) -> Answer {
        if failing.is_empty() {
            Answer::text(200, "ok\n")
        } else {
            Answer::text(503, failing)
        }
    }

    pub(crate) fn scrape(&self, format: Format) -> String {
        let gauges = lock(&self.gauges).clone();
        let gauges = gauges.and_then(|gauges| gauges.wait(gauges.begin()).ok());
        metrics::write(format, &self.store, gauges.as_ref(), &self.own_counts(), &self.version)
    }

    fn own_counts(&self) -> metrics::Own {
        let spans = self.exporter.as_ref().map(Exporter::counts).unwrap_or_default();
        let (lines, lines_held) = self.log.counts();
        metrics::Own {
            exported: spans.exported,
            rejected: spans.rejected,
            dropped: spans.dropped,
            queued: spans.queued,
            export_failures: spans.failures,
            lines,
            lines_held,
            refused: lock(&self.server).upgrade().map_or(0, |server| server.refused()),
        }
    }
}

/// Locks; a thread that panicked under the lock left counts behind, nothing that could be half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread with a small stack.
pub(crate) fn spawn(name: &'static str, stack: usize, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let built = std::thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(run);
    built.map(drop).map_err(|source| Error::Thread { name, source })
}

/// Nanoseconds since 1970.
pub(crate) fn nanos_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// At most so many bytes of a text, cut between characters.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
