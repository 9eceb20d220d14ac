"""The explain page: what a worker does, and what it knows of a user, for whoever looks with a browser."""
