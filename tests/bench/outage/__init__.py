"""What the group `catch_up` is made of."""
