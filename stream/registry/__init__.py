"""A schema registry with Confluent's API: where it is, and what its schemas are."""
