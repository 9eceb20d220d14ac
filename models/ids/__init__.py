"""Raw ids as texts, and as the indices that a model knows them by."""
