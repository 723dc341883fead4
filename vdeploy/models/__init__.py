"""Models: backbones that turn frames into features, heads that turn features into verdicts."""
