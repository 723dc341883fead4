"""Serving with NVIDIA Triton: the model repository, a supervised local server, and a client."""
