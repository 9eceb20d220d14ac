"""A log walked in time order: every item that exists at the moment is ranked, and all learn as they go."""
