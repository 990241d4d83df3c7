"""A model file at work: pictures in, answers out, by the engine that is fastest; and graphs for other runners."""
