"""What is measured on real hypervisors: the lab with openQRM in it, and bare libvirt beside it."""
