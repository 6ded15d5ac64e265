//! One file a command.

pub(crate) mod attach;
pub(crate) mod attempt;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod debug;
pub(crate) mod demo;
pub(crate) mod detach;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod handlers;
pub(crate) mod image;
mod kept;
pub(crate) mod logs;
pub(crate) mod pods;
pub(crate) mod ps;
pub(crate) mod resize;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod stop;
pub(crate) mod streams;
pub(crate) mod top;
pub(crate) mod wait;
