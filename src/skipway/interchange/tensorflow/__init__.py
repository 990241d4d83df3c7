"""TensorFlow: checkpoints V1 and V2, frozen graphs."""
