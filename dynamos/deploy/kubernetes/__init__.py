"""A profile on a cluster: its manifests, made of the same units as processes and Ansible's roles; and their checks."""
