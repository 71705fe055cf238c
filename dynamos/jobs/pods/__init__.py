"""Job parts as pods of a Kubernetes cluster, used once, and kept warm for who is in a hurry."""
