//! Metrics, spans, logs and health of the daemon.
