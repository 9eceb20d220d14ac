"""From histories to vectors, as the model is defined and trained."""
