"""Reruns the benchmarks, keeps what they found as records, and writes RESULTS.md from these and from nothing else."""
