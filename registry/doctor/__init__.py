"""The mistakes that people make around a registry, looked for from where it runs and from outside."""

from registry.doctor.client import Node
from registry.doctor.nodes import examine_nodes
from registry.doctor.storage import examine_storage

__all__ = ["Node", "examine_nodes", "examine_storage"]
