"""A finished run as one page: `perception-batch report`. Everything shown is read from the run's own files."""
