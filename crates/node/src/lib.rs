//! The kubelet's job over a CRI-shaped trait: order, restarts, volumes, environment, status.
