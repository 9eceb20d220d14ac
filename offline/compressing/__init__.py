"""A model made smaller, and what that costs on held-out rows."""
