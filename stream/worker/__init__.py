"""The Faust app, and the pipeline from a fetched batch to a committed offset."""
