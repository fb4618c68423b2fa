"""The fake technology: thousands of simulated hosts in one process, with failures on request."""
