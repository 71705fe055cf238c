"""A stand-in for Pulumi's plugin `kubernetes`, which cannot be built from what is here. It belongs to the tests.

It does what the real one does as far as our components need it: server-side apply under the objects' own names, a wait
until what was made is ready, refresh, and removal that waits until things are gone.
"""
