"""Two towers over features: ids, categories, numbers and histories of users and items; no torch."""
