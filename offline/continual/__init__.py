"""The trainer: it goes on from the model that serves, again and again, and publishes what ranks no worse."""
