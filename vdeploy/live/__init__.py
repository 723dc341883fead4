"""Live sources: cameras, network streams and files played as if they were live."""
