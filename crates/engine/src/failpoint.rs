//! Places where a test may kill the process; see [`cofferdam_runtimes::failpoint`].

pub(crate) use cofferdam_runtimes::failpoint::reach;
