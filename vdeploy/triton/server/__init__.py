"""A Triton server on this machine: installation, start and supervision."""
