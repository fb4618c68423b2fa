"""What a browser gets before the web UI comes."""
