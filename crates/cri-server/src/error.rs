//! Errors of the engine as gRPC's: codes and words are containerd's, where it has any and nothing is lost by it.
//!
//! containerd gives a code to errors of `github.com/containerd/errdefs` alone (`errgrpc.ToGRPC`, called in
//! `internal/cri/instrument`); a state that forbids a verb is a plain error there, and so `Unknown`. What is wrong
//! with a request is `Unknown` there too; here it is `InvalidArgument`, which says more.

use cofferdam_model::cri::Error;
use tonic::Status;

/// containerd's words for what is not there, by the id as it was asked for. Where it leaves the id out, it is in.
pub(crate) type Absent = fn(&str) -> String;

/// Of a container, for verbs that have no words of their own (`container_start.go`, `container_status.go`,
/// `container_log_reopen.go`).
pub(crate) const CONTAINER: Absent = |id| format!("an error occurred when try to find container {id:?}");
/// `sandbox_status.go`.
pub(crate) const SANDBOX: Absent = |id| format!("an error occurred when try to find sandbox {id:?}");

/// Something is not there.
pub(crate) fn absent(words: Absent, id: &str) -> Status {
    Status::not_found(format!("{}: not found", words(id)))
}

/// The engine's error.
pub(crate) fn status(error: Error) -> Status {
    match error {
        Error::NotFound(text) => Status::not_found(text),
        Error::Invalid(text) => Status::invalid_argument(text),
        // containerd: `failed to get sandbox runtime: no runtime for "x" is configured`, code Unknown.
        Error::Handler(text) => Status::unknown(format!("failed to get sandbox runtime: {text}")),
        Error::Timeout(text) => Status::deadline_exceeded(text),
        Error::Precondition(text) | Error::Failed(text) => Status::unknown(text),
    }
}

/// As [`status`], with what failed before it, as containerd wraps errors.
pub(crate) fn within(what: &str, error: Error) -> Status {
    let inner = status(error);
    Status::new(inner.code(), format!("{what}: {}", inner.message()))
}

/// What was made is refused: why, and whether it could be taken back.
pub(crate) fn undone(why: Error, taken_back: Result<(), Error>) -> Status {
    match taken_back {
        Ok(()) => status(why),
        Err(left) => Status::unknown(format!("{why}; and it could not be undone yet: {left}")),
    }
}

/// For verbs that may be repeated: what is not there is done already.
pub(crate) fn absent_is_done(outcome: Result<(), Error>) -> Result<(), Status> {
    match outcome {
        Err(Error::NotFound(_)) => Ok(()),
        other => other.map_err(status),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tonic::Code;

    #[test]
    fn every_error_has_its_code() {
        for (error, code) in [
            (Error::NotFound("t".into()), Code::NotFound),
            (Error::Invalid("t".into()), Code::InvalidArgument),
            (Error::Handler("t".into()), Code::Unknown),
            (Error::Precondition("t".into()), Code::Unknown),
            (Error::Timeout("t".into()), Code::DeadlineExceeded),
            (Error::Failed("t".into()), Code::Unknown),
        ] {
            assert_eq!(status(error).code(), code);
        }
        let text = status(Error::Handler("no runtime for \"x\" is configured".into()));
        assert_eq!(text.message(), "failed to get sandbox runtime: no runtime for \"x\" is configured");
        let wrapped = within("it failed", Error::NotFound("t".into()));
        assert_eq!((wrapped.code(), wrapped.message()), (Code::NotFound, "it failed: t"));
        assert!(absent_is_done(Err(Error::NotFound("t".into()))).is_ok());
        assert!(absent_is_done(Err(Error::Failed("t".into()))).is_err());
    }
}
