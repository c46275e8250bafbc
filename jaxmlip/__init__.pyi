from . import (
    cathodes as cathodes,
    data as data,
    datasets as datasets,
    evaluate as evaluate,
    fitting as fitting,
    formats as formats,
    graph as graph,
    learning as learning,
    potentials as potentials,
    pretrained as pretrained,
    properties as properties,
    simulate as simulate,
    study as study,
    testing as testing,
    units as units,
)
from .data import read as read, write as write
from .fitting import fit as fit, loss as loss
from .formats import export as export, load as load, save as save
from .graph import Graph as Graph, batch as batch, batches as batches
from .potentials import (
    FAMILIES as FAMILIES,
    Model as Model,
    Potential as Potential,
    build as build,
    predict as predict,
    tabulated as tabulated,
)
from .programs import keep_programs as keep_programs
from .simulate import calculator as calculator

__version__: str
