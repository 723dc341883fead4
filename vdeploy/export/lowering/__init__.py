"""Lowering: from Keras models to the graphs that formats are written from."""
