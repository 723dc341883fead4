"""What a file or folder of ours holds: tensors, precision found, sizes, hashes, versions, and who would refuse it."""
