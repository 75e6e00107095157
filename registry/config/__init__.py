"""Distribution's configuration: a YAML file and REGISTRY_* variables, checked once, at the start.

    source       finds and reads the file          tree       YAML to maps, lists and scalars
    environment  lays the variables over it        fit        leaves what the schema has keys for
    checks       rules between keys                settings   the sections, and http, storage, ...
    rendering    shows it without its secrets      exposure   refuses to be open to strangers

Everything wrong is reported at once, a line each, with the line of the file or the variable it came
from. A key that is not known is warned of and ignored, as in Distribution.
"""

from registry.config.errors import ConfigError
from registry.config.exposure import check_exposure
from registry.config.http import TcpEndpoint, UnixEndpoint
from registry.config.loading import Loaded, load
from registry.config.rendering import render
from registry.config.settings import Settings

__all__ = [
    "ConfigError",
    "Loaded",
    "Settings",
    "TcpEndpoint",
    "UnixEndpoint",
    "check_exposure",
    "load",
    "render",
]
