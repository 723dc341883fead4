"""Scores over time: frames sampled from videos, windows that slide over them, and the events that they show."""
