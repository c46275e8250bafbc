"""What an active learning may be told: the content of a ``learn.toml`` beside data and potential."""

import dataclasses
from typing import Any, Literal

from jaxmlip.config import ConfigError, Count, NotNegative, Positive, Settings, Share, Whole


@dataclasses.dataclass(frozen=True)
class Explorer(Settings):
    """One way in which the potential is taken to new structures."""

    kind: str = "dynamics"
    """A name in `EXPLORERS`, or the import path of a function ``(model, starts, exploring, rng) -> structures``."""
    weight: Positive = 1.0
    """Share of the starts of a round, relative to the other explorers."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Its settings, such as temperatures of dynamics; those of a function of your own reach it as they are."""


@dataclasses.dataclass(frozen=True)
class Doubt(Settings):
    """How it is measured how far a structure lies outside of the training data.

    Whatever the measure, it is given relative to the training data's own: at 1 a structure is as doubtful as those at
    ``quantile`` of the training data.
    """

    kind: Literal["auto", "grade", "variance", "committee"] = "auto"
    """grade: MaxVol over the features of atoms (of structures, where energies of atoms are not local); variance: of a
    Gaussian process; committee: spread of the forces of models each fitted without one part of the data; auto: the
    variance of a Gaussian process, the grade of all others."""
    frozen: tuple[str, ...] = ()
    """Of grades: patterns of the names of parameters that do not count, such as "radial*" of a moment tensor potential
    of many elements, whose grades by all parameters cost much; none: those before the last layer of a network."""
    soft: Positive = 2.0
    """Beyond it a structure is worth a label."""
    hard: Positive = 10.0
    """Beyond it a replica ends: its next structures would be the fault of a potential that does not know them. Where
    the training structures lie farther than 1 from each other (grades of one half of them over the other: few labels,
    many parameters), it counts in units of that; else no replica would come to where the potential is wrong."""
    quantile: Positive = 0.95
    """Of the training data's own values, the unit of all others."""
    n_members: Count = 4
    """Of a committee."""

    def __post_init__(self) -> None:
        """Refuses limits in the wrong order."""
        super().__post_init__()
        if self.hard < self.soft:
            raise ConfigError(f"hard must not be below soft, got {self.hard} and {self.soft}")
        if self.quantile > 1:
            raise ConfigError(f"quantile is a part of the training data, at most 1, got {self.quantile}")
        if self.n_members < 2:
            raise ConfigError(f"n_members: a committee has at least 2, got {self.n_members}")


@dataclasses.dataclass(frozen=True)
class Labelling(Settings):
    """Who calculates the labels: give one of ``calculator``, ``command`` and ``model``."""

    calculator: str = ""
    """Import path of a calculator of ASE, such as ase.calculators.vasp.Vasp."""
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Keyword arguments of the calculator, such as {xc = "PBE", encut = 520}."""
    command: str = ""
    """A program that reads one extended XYZ file, {input}, and writes another with energy and forces, {output}:
    "mpiexec -n 8 python {here}/dft.py {input} {output}". It runs in an empty folder of its own; {here} is the folder in
    which the learning was started."""
    model: str = ""
    """A potential as the teacher: its file, or a name such as rocksalt-mtp."""
    processes: Whole = 0
    """Labels calculated at once: by a calculator each in a process of its own. 0: one after another in this process (a
    command always has its own)."""
    time_limit: NotNegative = 0.0
    """Seconds after which a calculation in a process of its own is given up; 0: none."""
    retries: Whole = 1
    """Times that a failed calculation is tried again before it is set aside."""
    largest_force: Positive = 50.0
    """eV/Å; a structure on which larger ones are found is set aside."""

    def __post_init__(self) -> None:
        """Refuses what cannot be run."""
        super().__post_init__()
        given = [name for name in ("calculator", "command", "model") if getattr(self, name)]
        if len(given) > 1:
            raise ConfigError(f"give one of calculator, command and model, not {' and '.join(given)}")
        if self.command and not ("{input}" in self.command and "{output}" in self.command):
            raise ConfigError(f"command must contain {{input}} and {{output}}, got {self.command!r}")
        if self.time_limit and not (self.command or (self.calculator and self.processes)):
            raise ConfigError("time_limit needs a command, or a calculator with processes = 1 or more")


@dataclasses.dataclass(frozen=True)
class Learning(Settings):
    """An active learning: explore, select, label and fit in rounds."""

    budget: Count = 200
    """Calculations that are paid for at most, failed ones included."""
    per_round: Count = 20
    """Calculations of a round, at most."""
    rounds: Count = 20
    """Rounds, at most."""
    starts: Count = 16
    """Replicas of a round, shared among the explorers by their weights; they start from structures drawn from the
    training data and those given without labels, each formula of a cell as likely as any other."""
    inside: Share = 0.0
    """The learning ends when at most this part of what a round explored lies outside of the training data."""
    max_atoms: Count = 64
    """Larger cells are neither explored nor labelled."""
    choice: Literal["informative", "random"] = "informative"
    """Which explored structures are labelled: the most informative ones, or any (to compare with)."""
    twins: Share = 0.05
    """A structure whose features are as near as this to those of one already chosen is its twin and left out; 1 is the
    spread of the features of all that are outside."""
    go_on: bool = False
    """A fit of several steps starts from the last round's parameters instead of anew."""
    explore: tuple[Explorer, ...] = (Explorer("dynamics", 3.0), Explorer("strained"), Explorer("rattled"))
    """The ways to new structures; in TOML [[explore]], with kind, weight and options. ``explore = []``: none, labels
    are asked for structures given without one."""
    doubt: Doubt = dataclasses.field(default_factory=Doubt)
    """Where the training data end."""
    label: Labelling = dataclasses.field(default_factory=Labelling)
    """Who calculates."""
    seed: Whole = 0
    """Of all that is drawn; each draw depends on it, the round and a number alone."""
