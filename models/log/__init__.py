"""Behaviour logs: their formats, their rows as columns of numbers, and what is wrong with the rest."""
