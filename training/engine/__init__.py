"""The training engine: epochs, batches, devices, precision and checkpoints."""
