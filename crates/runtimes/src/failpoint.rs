//! Places where a test may kill the process. Without the feature `failpoints` this is nothing.

/// With the feature: kills the process with SIGKILL where `COFFERDAM_KILL_AT` names this place.
#[cfg(feature = "failpoints")]
pub fn reach(place: &str) {
    use std::sync::OnceLock;
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("COFFERDAM_KILL_AT").ok());
    if wanted.as_deref() == Some(place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Without the feature: nothing.
#[cfg(not(feature = "failpoints"))]
pub fn reach(_place: &str) {}
