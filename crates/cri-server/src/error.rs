//! Errors of the engine as gRPC's: codes and words are containerd's, where it has any.

use cofferdam_model::cri::Error;
use tonic::Status;

/// The engine's error.
pub(crate) fn status(error: Error) -> Status {
    match error {
        Error::NotFound(text) => Status::not_found(text),
        Error::Invalid(text) => Status::invalid_argument(text),
        // containerd: `failed to get sandbox runtime: no runtime for "x" is configured`, code Unknown.
        Error::Handler(text) => Status::unknown(format!("failed to get sandbox runtime: {text}")),
        Error::Precondition(text) => Status::failed_precondition(text),
        Error::Timeout(text) => Status::deadline_exceeded(text),
        Error::Failed(text) => Status::unknown(text),
    }
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
            (Error::Precondition("t".into()), Code::FailedPrecondition),
            (Error::Timeout("t".into()), Code::DeadlineExceeded),
            (Error::Failed("t".into()), Code::Unknown),
        ] {
            assert_eq!(status(error).code(), code);
        }
        let text = status(Error::Handler("no runtime for \"x\" is configured".into()));
        assert_eq!(text.message(), "failed to get sandbox runtime: no runtime for \"x\" is configured");
        assert!(absent_is_done(Err(Error::NotFound("t".into()))).is_ok());
        assert!(absent_is_done(Err(Error::Failed("t".into()))).is_err());
    }
}
