"""Vectors in Redis: the format, and the only code that writes it."""
