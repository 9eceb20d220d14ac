"""Columns of events -> windows that survive a crash."""
