"""Deployments: a new version beside the one that serves, verified, then switched to."""
