"""Machine-learned interatomic potentials as pure JAX functions: one pipeline from DFT data to a cathode voltage.

Names are imported when they are used, so that ``import jaxmlip`` costs nothing and changes nothing. The one list of
them is the stub beside this file, ``__init__.pyi``, which type checkers and editors read too.
"""

from lazy_loader import attach_stub

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
