"""What a network costs, by arithmetic over its spec alone: nothing is built, and no memory is taken."""

from skipway.cost.layers import LayerCost
from skipway.cost.price import Price, layers_of, price_of

__all__ = ["LayerCost", "Price", "layers_of", "price_of"]
