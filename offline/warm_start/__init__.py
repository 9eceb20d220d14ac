"""From a behaviour log to the state that a worker would have left."""
