"""``jaxmlip card``: what the potentials that come with the package are good for."""

from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from jaxmlip import pretrained
from jaxmlip.commands.output import console
from jaxmlip.commands.parse import parse, take_config


@dataclass(frozen=True)
class CardOf:
    """The cards of the shipped potentials: elements, training data, errors, limits, and what to cite.

    example: jaxmlip card rocksalt-mtp
    """

    name: tyro.conf.Positional[str] = ""
    """A shipped potential; all of them without a name."""


def main(words: Sequence[str]) -> int:
    """Run the command."""
    mapping, where, rest = take_config(words)
    job = parse(CardOf, rest, prog="jaxmlip card", mapping=mapping, where=where)
    names = [job.name] if job.name else pretrained.available()
    console().print("\n\n".join(str(pretrained.card(name)) for name in names), highlight=False)
    return 0
