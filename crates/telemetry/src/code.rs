//! How a call ended, in gRPC's terms.

/// A gRPC status code (grpc/doc/statuscodes.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok,
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// Every code with the spelling of Go's gRPC, which dashboards know; a code's place here is its number on the wire.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Canceled, "Canceled"),
    (Code::Unknown, "Unknown"),
    (Code::InvalidArgument, "InvalidArgument"),
    (Code::DeadlineExceeded, "DeadlineExceeded"),
    (Code::NotFound, "NotFound"),
    (Code::AlreadyExists, "AlreadyExists"),
    (Code::PermissionDenied, "PermissionDenied"),
    (Code::ResourceExhausted, "ResourceExhausted"),
    (Code::FailedPrecondition, "FailedPrecondition"),
    (Code::Aborted, "Aborted"),
    (Code::OutOfRange, "OutOfRange"),
    (Code::Unimplemented, "Unimplemented"),
    (Code::Internal, "Internal"),
    (Code::Unavailable, "Unavailable"),
    (Code::DataLoss, "DataLoss"),
    (Code::Unauthenticated, "Unauthenticated"),
];

impl Code {
    /// The code of a number on the wire; numbers that gRPC does not know are `Unknown`, as it says.
    pub fn from_number(number: i32) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        CODES.get(index).map_or(Self::Unknown, |(code, _)| *code)
    }

    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The name in Go's spelling, as `grpc_code` labels carry it: `OK`, `NotFound`.
    pub fn name(self) -> &'static str {
        CODES.get(self as usize).map_or("Unknown", |(_, name)| name)
    }

    /// Whether the server is at fault, so that a server's span counts as failed (OpenTelemetry, "gRPC", span status).
    pub fn is_fault(self) -> bool {
        use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
        matches!(self, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn numbers_and_names_agree() {
        for (index, (code, name)) in CODES.iter().enumerate() {
            assert_eq!(code.number(), index as i32);
            assert_eq!(Code::from_number(index as i32), *code);
            assert_eq!(code.name(), *name);
        }
        for odd in [-1, 17, i32::MIN, i32::MAX] {
            assert_eq!(Code::from_number(odd), Code::Unknown);
        }
    }
}
