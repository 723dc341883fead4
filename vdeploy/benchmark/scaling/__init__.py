"""Scaling of throughput with batch size, number of devices and size of the data set."""
