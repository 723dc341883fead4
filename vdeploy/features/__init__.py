"""Features: extracted once, kept in a store."""
