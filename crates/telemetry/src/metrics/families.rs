//! Every metric there is: the one table that the scrape, its tests and the document follow.

/// What kind of metric a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

impl Kind {
    /// As a `# TYPE` line names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric family.
#[derive(Debug)]
pub(crate) struct Family {
    /// Full name; a counter's ends in `_total`.
    pub(crate) name: &'static str,
    /// Kind.
    pub(crate) kind: Kind,
    /// Names of its labels, in the order of their values.
    pub(crate) labels: &'static [&'static str],
    /// One sentence.
    pub(crate) help: &'static str,
}

/// Upper bounds of the buckets of every histogram, in seconds: from a fast stage to a slow pull.
pub(crate) const BOUNDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub(crate) const $id: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All families, in the order of the scrape.
        #[cfg(test)]
        pub(crate) const ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    REQUESTS: Counter "cofferdam_cri_requests_total" ["verb", "handler", "code"] "CRI calls that ended, by gRPC code.";
    IN_FLIGHT: Gauge "cofferdam_cri_requests_in_flight" ["verb"] "CRI calls being worked on.";
    DURATION: Histogram "cofferdam_cri_request_duration_seconds" ["verb", "handler"] "How long CRI calls took, whatever their outcome.";
    STAGE: Histogram "cofferdam_cri_stage_duration_seconds" ["verb", "handler", "stage"] "How long each stage of CRI calls took.";
    PODS: Gauge "cofferdam_pods" ["handler", "state"] "Pod sandboxes on record.";
    CONTAINERS: Gauge "cofferdam_containers" ["handler", "state"] "Containers on record.";
    CLEANUPS: Gauge "cofferdam_cleanups_failed" [] "Clean-ups that failed and wait to be tried again.";
    PULLS: Gauge "cofferdam_image_pulls_in_progress" [] "Image pulls in progress.";
    GAUGES_UP: Gauge "cofferdam_engine_answers" [] "1 where the engine answered this scrape in time; without its answer the four gauges before are left out.";
    SPANS: Counter "cofferdam_trace_spans_total" ["outcome"] "Spans exported, refused by the collector (rejected), or given up because the queue was full or the daemon ended (dropped).";
    SPANS_QUEUED: Gauge "cofferdam_trace_spans_queued" [] "Spans that wait for export.";
    EXPORT_FAILURES: Counter "cofferdam_trace_export_failures_total" [] "Exports of spans that failed; what can be sent again is.";
    LOG_LINES: Counter "cofferdam_log_lines_total" ["level"] "Log lines written.";
    LOG_HELD: Counter "cofferdam_log_lines_held_back_total" [] "Log lines held back because the same line had just been written.";
    HTTP_REFUSED: Counter "cofferdam_telemetry_connections_refused_total" [] "Connections to this endpoint cut or refused because too many were open.";
    BUILD: Gauge "cofferdam_build_info" ["version"] "1, with the version in the label.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" [] "User and system processor time of the daemon, in seconds.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" [] "Open file descriptors of the daemon.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" [] "Most file descriptors that the daemon may open.";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" [] "Virtual memory of the daemon, in bytes.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" [] "Resident memory of the daemon, in bytes.";
    PROCESS_PSS: Gauge "cofferdam_process_proportional_memory_bytes" [] "Proportional set size of the daemon, in bytes: resident memory, shared pages divided among their users.";
    PROCESS_THREADS: Gauge "process_threads" [] "Threads of the daemon.";
    PROCESS_START: Gauge "process_start_time_seconds" [] "When the daemon started, in seconds since 1970.";
}
