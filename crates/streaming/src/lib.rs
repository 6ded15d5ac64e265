//! Exec, attach and port-forward for API servers: SPDY/3.1 and websockets.
