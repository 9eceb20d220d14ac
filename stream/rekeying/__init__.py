"""From a topic that is keyed otherwise to one that is keyed by user id."""
