"""The driver SDK: capability protocols on one side, a service that speaks to the bus on the other.

A driver imports `capabilities`, `manifest` and the errors; it knows neither NATS nor FastStream.
"""
