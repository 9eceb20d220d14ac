"""A user's window: its binary value, the fold of events into it, and its columns."""
