"""From a trained run to a service that people trust: export, prove, serve, predict and measure."""

__version__ = "0.1.0"
