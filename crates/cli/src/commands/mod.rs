//! One file a command.

pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod exec;
pub(crate) mod handlers;
pub(crate) mod image;
pub(crate) mod logs;
mod pods;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod stop;
