//! Runtime drivers: one module each behind one narrow trait.
