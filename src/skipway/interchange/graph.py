"""The graph of a network from any framework: its nodes, and the walks from one node to the next.

A reader makes the nodes. It names each operation in its own words, and it resolves the values that a file names (the
blobs of Caffe, `node:1` of TensorFlow, the value names of ONNX) to the nodes that compute them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any, Generic, TypeVar


class GraphError(ValueError):
    """Nodes that make no graph. The message says what is wrong, but not in which file."""


@dataclass(frozen=True)
class Node:
    """One operation of a network.

    - `name`: the name of the node, unique in its graph.
    - `op`: the operation, in the words of the reader that made the node.
    - `inputs`: the names of the nodes whose values it takes, in order. A value that it takes twice is listed twice.
    - `attributes`: the settings of the operation, in the words of the framework.
    - `arrays`: the names of the stored arrays that belong to it, in order.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    arrays: tuple[str, ...] = ()


AnyNode = TypeVar("AnyNode", bound=Node)


class Graph(Generic[AnyNode]):
    """The nodes of one network by name, in the order in which they were given."""

    def __init__(self, nodes: Iterable[AnyNode]) -> None:
        """Connect `nodes`.

        Raises GraphError where two nodes have the same name, or where a node takes the value of a missing node.
        """
        self.nodes: dict[str, AnyNode] = {}
        self._consumers: dict[str, list[AnyNode]] = {}
        for node in nodes:
            if node.name in self.nodes:
                raise GraphError(f"two nodes are named {node.name[:80]!r}")
            self.nodes[node.name] = node
            self._consumers[node.name] = []
        for node in self.nodes.values():
            for name in node.inputs:
                if name not in self.nodes:
                    raise GraphError(f"the node {node.name[:80]!r} takes a value from {name[:80]!r}, which is missing")
                self._consumers[name].append(node)

    def producer(self, node: AnyNode, position: int = 0) -> AnyNode:
        """The node that computes the input of `node` at `position`. Raises IndexError where it has no such input."""
        name = node.inputs[position]
        return self.nodes[name]

    def producers(self, node: AnyNode) -> list[AnyNode]:
        """The nodes that compute the inputs of `node`, in the order of its inputs."""
        return [self.nodes[name] for name in node.inputs]

    def consumers(self, node: AnyNode) -> tuple[AnyNode, ...]:
        """The nodes that take the value of `node`. A node that takes it twice is listed twice."""
        return tuple(self._consumers[node.name])

    def topological_order(self) -> list[AnyNode]:
        """All nodes in an order in which each one follows its inputs.

        Raises GraphError where a node depends on its own value.
        """
        inputs_of = {name: node.inputs for name, node in self.nodes.items()}
        sorter = TopologicalSorter(inputs_of)
        try:
            names = list(sorter.static_order())
        except CycleError:
            raise GraphError("a node depends on its own value") from None
        return [self.nodes[name] for name in names]
