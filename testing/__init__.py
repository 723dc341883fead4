"""What tests and benchmarks share: tiny bundles, videos, servers. Not installed."""
