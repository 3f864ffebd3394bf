"""What a user starts, goes on with and loads."""
