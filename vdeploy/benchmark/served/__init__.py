"""Benchmark of a Triton server: concurrent callers, the server's statistics, and a comparison with perf_analyzer."""
