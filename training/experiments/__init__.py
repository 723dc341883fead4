"""Questions put to many trainings at once: what does each method add, which settings are best, how fast to learn."""
