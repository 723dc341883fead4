"""Verification: no export counts until it computes what the reference computes."""
