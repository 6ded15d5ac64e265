//! How a sandbox comes to be and goes: ordered steps with their undo, OCI specs, recovery decisions.
