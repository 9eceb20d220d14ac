"""From Kafka to fresh vectors in Redis."""
