"""From structures to arrays: neighbour lists on the host, and the `Graph` that every potential takes."""

from jaxmlip.graph.batch import Batch, Graph, Labels, Shape, batch, batches, edge_vectors
from jaxmlip.graph.stack import Bucket, stack, take

__all__ = ["Batch", "Bucket", "Graph", "Labels", "Shape", "batch", "batches", "edge_vectors", "stack", "take"]
