"""Decoding of files that strangers send, in processes that may do little and can be lost."""
