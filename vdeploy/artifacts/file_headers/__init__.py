"""What the header of a model file says, read without its runtime."""
