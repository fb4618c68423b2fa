"""Inventory: the truth about resources, networks, images, MAC addresses and operations."""
