"""Kafka: the connection, topics, the group, reading and producing."""
