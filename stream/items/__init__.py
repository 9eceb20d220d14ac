"""The item learner as a service: it follows the topic, keeps its state in Kafka, and publishes live items."""
