"""The bus: NATS with JetStream, FastStream on top. Nothing else in openQRM speaks to either."""
