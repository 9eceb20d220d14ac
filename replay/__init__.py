"""From a behaviour CSV to Kafka, in event time."""
