"""The events of the topic as Parquet, by day: each once, whatever is killed."""
