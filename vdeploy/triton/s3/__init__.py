"""Model repositories in the buckets of Amazon S3, or of a server that speaks its protocol."""
