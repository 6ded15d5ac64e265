//! Linux: namespaces, cgroups v1 and v2, pidfds, atomic files, safe paths.
