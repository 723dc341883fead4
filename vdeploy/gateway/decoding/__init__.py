"""Decoding of untrusted files in confined processes that are replaced when they fail."""
