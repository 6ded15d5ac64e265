//! Handler tables from the configuration files that people have: containerd's, CRI-O's and our own.
