"""Search for the serving configuration that holds the highest rate of clips within a latency objective."""
