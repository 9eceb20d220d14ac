"""Avro's binary records -> what stands at some of their paths, as columns."""
