"""Heads: features in, class probabilities out."""
