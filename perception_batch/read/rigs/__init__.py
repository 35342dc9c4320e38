"""Calibration: from CameraInfo and transforms of the log, from files, and put together."""
