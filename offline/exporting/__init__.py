"""Users' vectors as a log leaves them, written into a store or into files."""
