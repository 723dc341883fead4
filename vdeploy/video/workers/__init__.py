"""Decoding in confined worker processes: a file that ends its decoder ends nothing else."""
