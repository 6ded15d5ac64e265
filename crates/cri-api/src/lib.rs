//! The messages and services of CRI v1, from a .proto of our own writing that is wire-compatible with
//! the one that kubernetes/cri-api publishes: [`v1`] has the messages,
//! [`v1::runtime_service_client`] and [`v1::image_service_client`] the clients, and
//! [`v1::runtime_service_server`] and [`v1::image_service_server`] the servers.

/// Package `runtime.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use std::fmt;

impl fmt::Debug for v1::AuthConfig {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
