"""The vehicle's motion, from what the log says of it."""
