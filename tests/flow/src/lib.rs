//! Tests across crates that need no privileges; all of them are in `tests/flow/`.
