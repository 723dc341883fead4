"""Tables and pages of a benchmark's results."""
