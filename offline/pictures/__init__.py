"""What offline commands draw: pictures, and a page about a training."""
