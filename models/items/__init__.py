"""Items that go on learning: from a model's as trained, event by event."""
