//! The rows, a file a subject. Error texts are those of Kubernetes 1.34, containerd 1.6 to 2.2, CRI-O
//! 1.30 and later, runc, crun, youki, gVisor and Kata, and our own.

mod admission;
mod cni;
mod confine;
mod container;
mod gvisor;
mod handler;
mod image;
mod kernel;
mod network;
mod port;
mod probe;
mod registry;
mod resource;
mod sandbox;
mod schedule;
mod storage;
mod versions;
mod vm;
mod volume;

use crate::diagnose::Diagnosis;

pub(crate) const ALL: &[&[Diagnosis]] = &[
    admission::ROWS,
    handler::ROWS,
    schedule::ROWS,
    sandbox::ROWS,
    volume::ROWS,
    image::ROWS,
    registry::ROWS,
    container::ROWS,
    port::ROWS,
    probe::ROWS,
    confine::ROWS,
    resource::ROWS,
    gvisor::ROWS,
    vm::ROWS,
    versions::ROWS,
    kernel::ROWS,
    network::ROWS,
    cni::ROWS,
    storage::ROWS,
];
