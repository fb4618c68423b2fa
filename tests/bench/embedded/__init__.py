"""What the group `embedded` is made of: the process on a state folder, and its floor."""
