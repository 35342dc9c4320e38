"""Point clouds of the log: which topic, its messages, and the points in the vehicle's frame."""
