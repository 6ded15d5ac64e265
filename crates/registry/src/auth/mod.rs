//! Who we are to a registry: the credentials that there are, and how each registry wants them.

mod authorizer;
pub(crate) mod challenge;
pub(crate) mod credential;
pub(crate) mod docker_config;
mod helper;
pub(crate) mod keyring;
mod token;

pub(crate) use authorizer::Authorizer;
