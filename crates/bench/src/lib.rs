//! Measures container runtimes beside each other, in one run, and says their ratios.
//!
//! [`cri`] drives any runtime that speaks CRI v1, which is what `cofferdam bench` and `make bench` do;
//! [`sample`] and [`chart`] are what is said of the values.

pub mod chart;
pub mod cri;
pub mod sample;
