//! Every decision as a pure function: validation, admission, resource arithmetic, quota.
