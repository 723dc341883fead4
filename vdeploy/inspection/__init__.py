"""Inspection of bundles, repositories and model files: tensors, precision, sizes, hashes and versions."""
