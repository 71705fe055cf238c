"""DYNAMOS: dynamically adaptive microservices for data exchange between organisations."""
