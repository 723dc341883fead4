"""Choice of a model for a data set: accuracy by source, speed on this machine, and which one to take."""
