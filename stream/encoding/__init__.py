"""Changed users -> rows of vectors."""
