"""One file per group of rows; each has `async def measure(bench)`, which yields rows. See ../README.md."""
