"""One storage's tree into another storage, next to a registry that goes on with the first one.

Blobs go first, each hashed on its way and visible only once it is whole; then a repository's layer links,
its manifests with those they list first, and its tags last. So whoever reads the target meets no name that
leads to nothing, and a copy that was killed is gone on with by doing it again: a link that is there
was written after everything that it needs.

Where the target has a registry and a collector of its own, links are written as a push writes them, under
the guard that keeps what they rely on. The collector's state stays behind: it speaks of the times and the
garbage of one storage. Only its journal comes along, so that what was deleted can be restored.
"""
