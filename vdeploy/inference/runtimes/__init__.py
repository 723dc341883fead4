"""Runtimes: load one artifact, call it with arrays. One module each, imported only when it is asked for."""
