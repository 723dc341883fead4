"""Export, verify, serve, predict and measure a violence detector for video."""

__version__ = "0.2.0"
