"""DYNAMOS: dynamically adaptive microservices for data exchange between organisations."""

__version__ = "0.1.0"
