"""VGG19 (Simonyan and Zisserman 2015)."""
