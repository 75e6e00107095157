"""Everything between the socket and the ASGI application.

uvicorn's Server runs the event loop, the lifespan and the accepting. The protocol of a connection, its
limits and time-outs, zero-copy sending and the worker processes are ours.
"""

# What runs it, `workers.serve`, is not here: the configuration only needs the settings, and at once.
from .lifecycle import Lifecycle
from .settings import ServerSettings, TLSSettings

__all__ = ["Lifecycle", "ServerSettings", "TLSSettings"]
