"""Exporting a run: one module a format, and the proof that each file computes what the run computes."""
