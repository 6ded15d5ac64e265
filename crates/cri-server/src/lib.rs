//! CRI v1 over gRPC: a face on the engine, a file per verb.
