"""What the toolkit leaves on disk: runs, bundles and the headers of model files."""
