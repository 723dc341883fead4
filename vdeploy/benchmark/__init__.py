"""Measures latency, throughput, memory and accuracy of a bundle, in process and served."""
