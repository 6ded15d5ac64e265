//! The messages, generated from `proto/`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// NRI's own messages.
pub(crate) mod nri {
    include!(concat!(env!("OUT_DIR"), "/nri.pkg.api.v1alpha1.rs"));
}

/// What carries them.
pub(crate) mod ttrpc {
    include!(concat!(env!("OUT_DIR"), "/ttrpc.rs"));
}

pub(crate) use nri::*;

/// Name of the service that plugins offer.
pub(crate) const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// Name of the service that the runtime offers.
pub(crate) const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
