"""The layers of NequIP and of SevenNet: the same blocks, other rules for what is kept."""

from collections.abc import Sequence

from jaxmlip.config import ConfigError
from jaxmlip.potentials.message_passing.irreps import Block, Irrep, Layer, Path, gated_layer, irreps_text


def nequip_layers(channels: Sequence[int], n_layers: int, *, parity: bool, n_embedding: int) -> tuple[Layer, ...]:
    """The layers of a model with ``channels[l]`` features of each degree; the last one has scalars only.

    >>> [[str(b.irrep) for b in layer.convolved] for layer in nequip_layers((4, 4), 4, parity=True, n_embedding=4)]
    [['0e', '1o'], ['0e', '1o', '1e'], ['0o', '0e', '1o', '1e'], ['0e']]
    """
    hidden = [
        Block(Irrep(degree, p), n)
        for degree, n in enumerate(channels)
        for p in ((1, -1) if parity else ((-1) ** degree,))
    ]
    result, inputs = [], (Block(Irrep(0, 1), n_embedding),)
    for k in range(n_layers):
        wanted = hidden if k < n_layers - 1 else hidden[:1]
        result.append(_nequip_layer(inputs, wanted, range(len(channels))))
        inputs = result[-1].outputs
    return tuple(result)


def _nequip_layer(inputs: tuple[Block, ...], wanted: Sequence[Block], degrees: range) -> Layer:
    kept = [block for block in wanted if any(_couples(b.irrep, y, block.irrep) for b in inputs for y in degrees)]
    layer = gated_layer(inputs, (), kept)
    paths = tuple(
        Path(source, y, out.irrep)
        for source, block in enumerate(inputs)
        for y in degrees
        for out in layer.convolved
        if _couples(block.irrep, y, out.irrep)
    )
    return layer._replace(paths=paths)


def _couples(a: Irrep, y: int, out: Irrep) -> bool:
    return abs(a.degree - y) <= out.degree <= a.degree + y and out.parity == a.parity * (-1) ** y


def sevennet_layers(hidden: Sequence[Sequence[Block]], l_max: int, *, parity: bool) -> tuple[Layer, ...]:
    """The layers between the representations ``hidden``; Y has degrees to ``l_max``, even ones without ``parity``.

    >>> from jaxmlip.potentials.message_passing.irreps import parse_irreps
    >>> hidden = [parse_irreps(text) for text in ("8x0e", "8x0e+4x1e", "8x0e")]
    >>> [layer.n_radial for layer in sevennet_layers(hidden, 1, parity=False)]
    [16, 12]

    Raises:
        ConfigError: a representation that nothing gives.
    """
    result, inputs = [], tuple(hidden[0])
    for k, wanted in enumerate(hidden[1:], start=2):
        couplings = sorted(all_couplings(inputs, wanted, l_max, parity=parity, last=k == len(hidden)), key=_target)
        given = {path.target for path in couplings}
        missing = [block for block in wanted if block.irrep not in given]
        if missing:
            raise ConfigError(f"layer {k - 2}: no coupling gives {irreps_text(missing)}")
        layer = gated_layer(inputs, (), wanted)
        if layer.gated and layer.gates not in given:
            raise ConfigError(f"layer {k - 2}: no coupling gives the scalars that gate {irreps_text(layer.gated)}")
        kept = {block.irrep for block in layer.convolved}
        result.append(layer._replace(paths=tuple(path for path in couplings if path.target in kept)))
        inputs = result[-1].outputs
    return tuple(result)


def all_couplings(
    inputs: Sequence[Block], wanted: Sequence[Block], l_max: int, *, parity: bool, last: bool
) -> list[Path]:
    """All paths in the order of input, Y, output; sevenn has columns also for outputs that the layer does not keep."""
    highest = max(block.irrep.degree for block in wanted)
    paths = [
        Path(source, y, Irrep(degree, block.irrep.parity * ((-1) ** y if parity else 1)))
        for source, block in enumerate(inputs)
        for y in range(l_max + 1)
        for degree in range(abs(block.irrep.degree - y), min(block.irrep.degree + y, highest) + 1)
    ]
    return [path for path in paths if path.target.parity == 1 or not last]


def _target(path: Path) -> Irrep:
    return path.target
