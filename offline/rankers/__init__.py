"""A log -> a ranker: what is asked of it, how it learns, how good it is, and its artifact."""
