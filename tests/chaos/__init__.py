"""The axe: parts of a running openQRM are killed, stopped and cut off while it works; then an oracle looks at it."""
