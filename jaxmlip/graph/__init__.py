"""From structures to arrays: neighbour lists on the host, and the `Graph` that every potential takes."""

from jaxmlip.graph.batch import Batch, Graph, Labels, Shape, batch, batches, edge_vectors

__all__ = ["Batch", "Graph", "Labels", "Shape", "batch", "batches", "edge_vectors"]
