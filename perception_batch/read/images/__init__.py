"""Image messages: which topics are cameras, what an image message holds, and which stamp it gets."""
