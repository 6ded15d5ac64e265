//! One file a command.

pub(crate) mod attempt;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod detach;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod handlers;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod pods;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod stop;
