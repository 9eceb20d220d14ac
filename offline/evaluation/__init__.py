"""How well vectors rank, and what else is asked of a ranking."""
