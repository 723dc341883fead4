"""SavedModel."""
