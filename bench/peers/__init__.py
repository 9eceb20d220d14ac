"""The same job on other engines, written as their manuals say; each runs in a process of its own."""
