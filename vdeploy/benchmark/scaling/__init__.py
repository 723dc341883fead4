"""Throughput against batch size and number of devices."""
