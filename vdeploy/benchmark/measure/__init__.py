"""Measuring: workloads, interleaved windows, processes."""
