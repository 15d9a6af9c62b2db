//! Benchmarks, A and B in one run
