"""The corpus: inputs of every kind that people have, decoded by us and by FFmpeg."""
