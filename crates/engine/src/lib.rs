//! Executes plans, records, recovers, proves handlers, streams.
