"""Between a bundle and a server: what the server can run, which formats fit it, and what would be refused."""
