"""Image files by format: what the header says, and whether the file is whole, before a decoder sees it."""
