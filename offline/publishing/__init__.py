"""An artifact becomes the one that running workers serve."""
