"""Room `labels`: finished runs in, training sets out."""
