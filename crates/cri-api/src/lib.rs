//! The messages and services of CRI v1, from a .proto of our own writing.
