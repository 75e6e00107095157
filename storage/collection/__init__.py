"""What the registry's nodes and the collector agree on, so that collecting goes on beside pushes.

docs/garbage-collection.md has the protocol and why it is safe. Here is the half that nodes need, and the
forms in which both write; the collector itself is the package registry_gc.
"""
