"""Weights: found in Keras' cache or fetched into it, and never used before their hash was checked."""
