"""Model repositories: configurations, versions and the files on disk."""
