"""Distillation: a student learns what a teacher says of clips, beside their labels."""
