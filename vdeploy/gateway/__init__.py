"""The gateway: an HTTP service in front of a scorer, with everything that a service facing strangers needs."""
