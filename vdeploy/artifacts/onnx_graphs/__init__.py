"""ONNX graphs without running them: shapes of their tensors, and the memory that they take."""
