"""Small machines of their own kernel, on one private network: nodes that mount as real nodes do.

A guest is a User-Mode Linux: a kernel that runs as a process. It sees this machine's files, so that no
image is needed, and what it writes to them stays in its memory. `machine.guests()` starts some.
"""
