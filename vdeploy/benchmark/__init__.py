"""Measuring latency and throughput of what was exported, in process and served."""
