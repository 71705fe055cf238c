"""Images of DYNAMOS for clusters, made without a Docker daemon and without being root.

Sources (Debian packages that apt has checked, wheels with locked hashes, Go programs) become folders, folders become
layers, layers become an archive in the OCI image layout. The same sources give the same digests on every machine.
"""
