"""What happens when a message comes: one function per command, query and report, named like its model."""
