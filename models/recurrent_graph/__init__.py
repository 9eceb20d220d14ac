"""A graph of items beside a recurrent encoder of the window, joined by a gate; no torch."""
