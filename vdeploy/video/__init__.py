"""Videos: one decoder, and how a clip becomes frames."""
