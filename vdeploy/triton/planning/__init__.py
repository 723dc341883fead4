"""Plan what a server serves: its capabilities, the formats that suit it, and checks before anything changes."""
