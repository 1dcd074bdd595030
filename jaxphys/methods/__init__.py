"""Published methods, end to end."""
