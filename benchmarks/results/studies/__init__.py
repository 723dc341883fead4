"""The studies, and how each tells what was found."""
