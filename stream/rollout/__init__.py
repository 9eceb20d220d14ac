"""A new model under traffic: loaded, backfilled, served, cleaned up after."""
