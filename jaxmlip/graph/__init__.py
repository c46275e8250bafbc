"""From structures to arrays: neighbour lists on the host, and the `Graph` that every potential takes."""

from jaxmlip.graph.batch import Batch, Graph, GraphLabels, Shape, batch, batches, edge_vectors
from jaxmlip.graph.stack import Bucket, minibatches, stack, take

__all__ = ["Batch", "Bucket", "Graph", "GraphLabels", "Shape", "batch", "batches", "edge_vectors"]
__all__ += ["minibatches", "stack", "take"]
