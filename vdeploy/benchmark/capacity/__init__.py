"""How many servers a load needs, by a queueing formula and by a simulation."""
