"""The graph of a network, without any framework's files."""

from __future__ import annotations

import pytest

from skipway.interchange.graph import Graph, GraphError, Node

# A residual unit whose sum comes first in the file.
UNIT = [
    Node("sum", "add", ("conv", "picture")),
    Node("picture", "input"),
    Node("conv", "conv", ("picture",), {"stride": 1}, ("conv/kernel",)),
    Node("square", "multiply", ("sum", "sum")),
]


def names(nodes: list[Node] | tuple[Node, ...]) -> list[str]:
    return [node.name for node in nodes]


def test_nodes_stay_in_the_given_order() -> None:
    graph = Graph(UNIT)
    assert list(graph.nodes) == ["sum", "picture", "conv", "square"]
    assert graph.nodes["conv"].attributes == {"stride": 1}
    assert graph.nodes["conv"].arrays == ("conv/kernel",)


def test_producers_are_in_the_order_of_the_inputs() -> None:
    graph = Graph(UNIT)
    total = graph.nodes["sum"]
    assert names(graph.producers(total)) == ["conv", "picture"]
    assert graph.producer(total).name == "conv"
    assert graph.producer(total, 1).name == "picture"
    with pytest.raises(IndexError):
        graph.producer(graph.nodes["picture"])


def test_consumers_are_counted_once_for_each_input() -> None:
    graph = Graph(UNIT)
    assert names(graph.consumers(graph.nodes["picture"])) == ["sum", "conv"]
    assert names(graph.consumers(graph.nodes["sum"])) == ["square", "square"]
    assert graph.consumers(graph.nodes["square"]) == ()


def test_in_topological_order_each_node_follows_its_inputs() -> None:
    order = names(Graph(UNIT).topological_order())
    assert sorted(order) == ["conv", "picture", "square", "sum"]
    assert order == ["picture", "conv", "sum", "square"]


def test_a_chain_may_be_longer_than_the_limit_of_recursion() -> None:
    chain = [Node("0", "input")]
    for number in range(1, 5000):
        chain.append(Node(str(number), "relu", (str(number - 1),)))
    order = Graph(reversed(chain)).topological_order()
    assert order == chain


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node("a", "input"), Node("a", "relu", ("a",))], "two nodes are named 'a'"),
        ([Node("a", "relu", ("b",))], "the node 'a' takes a value from 'b', which is missing"),
    ],
)
def test_nodes_that_make_no_graph_are_refused(nodes: list[Node], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Graph(nodes)


@pytest.mark.parametrize("nodes", [[Node("a", "relu", ("a",))], [Node("a", "relu", ("b",)), Node("b", "relu", ("a",))]])
def test_a_circle_has_no_order(nodes: list[Node]) -> None:
    graph = Graph(nodes)
    with pytest.raises(GraphError, match="depends on its own value"):
        graph.topological_order()
