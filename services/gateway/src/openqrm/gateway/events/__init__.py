"""Live events: one follower of the stream, any number of clients."""
