"""Comparing two benchmark results."""
