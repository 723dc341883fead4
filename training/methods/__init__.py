"""Methods of training beyond the engine: one module a method, switched on by a section of the recipe."""
