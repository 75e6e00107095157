"""Whether every name in a storage leads to content, and all content is what it is called."""
