"""A Triton server in a benchmark: its callers, what it counts itself, servers of one's own, NVIDIA's perf_analyzer."""
