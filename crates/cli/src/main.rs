//! The `cofferdam` command: arguments, wiring, and what a person sees.
fn main() {}
