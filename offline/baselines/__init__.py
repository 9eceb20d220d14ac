"""The rankers to be beaten."""
