"""Layers of equivariant message passing: representations, couplings, convolutions, shared by several families."""
