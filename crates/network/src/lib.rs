//! The built-in bridge network, by netlink.
