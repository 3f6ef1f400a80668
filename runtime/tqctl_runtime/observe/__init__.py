"""What processes say about themselves."""
