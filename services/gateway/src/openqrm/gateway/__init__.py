"""The way in: HTTP, WebSocket and SSE for people and programs; who may do what, and who did it."""
