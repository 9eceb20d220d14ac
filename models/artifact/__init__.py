"""A trained model as files: saved, loaded, checked, published."""
