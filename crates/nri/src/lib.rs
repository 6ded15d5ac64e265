//! NRI plugins: asked about every pod and container, over ttrpc.
