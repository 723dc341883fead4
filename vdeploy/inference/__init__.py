"""Inference: the runtimes in this process, and scorers that hide where a model runs."""
