"""Making a plain Debian or Ubuntu host a hypervisor."""
