"""What every row of `make bench` is measured with: the stack of processes, load, usage, profiles, the table."""
