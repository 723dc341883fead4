"""Structured pruning: whole channels of a backbone's convolutions are removed, and what is left is fitted anew."""
