"""What could not be read: its form on the dead-letter topic, and its way back."""
