"""What the stream holds of every user, as a behaviour log: what is trained on is what is served on."""
