"""Self-supervised pre-training: the trunk of a head learns from footage that nobody has labelled."""
