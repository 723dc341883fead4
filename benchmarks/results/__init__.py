"""Runs the benchmarks, keeps their results as records, and writes RESULTS.md from the records alone."""
