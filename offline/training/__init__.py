"""From a behaviour log to a trained artifact."""
