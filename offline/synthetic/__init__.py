"""A made-up behaviour log with structure worth learning."""
