"""Backbones: frames in, features out."""
