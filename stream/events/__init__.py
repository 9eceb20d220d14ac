"""The bytes of records -> columns of events."""
