"""The foundation: errors, files, progress and what else every part builds on."""
