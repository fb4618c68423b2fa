"""PostgreSQL behind the ports: tables and what reads and writes them."""
