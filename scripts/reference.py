"""The API reference, a site of one page a module, made from the docstrings by pdoc: ``reference.py FOLDER``.

A warning of pdoc, and a name in single backticks that is nothing in the library, end it with an error.
"""

import argparse
import ast
import importlib.util
import inspect
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pdoc
import pdoc.render

import jaxmlip

HIDDEN = ("commands", "cli")  # programs, whose reference is --help
ALIAS = "Alias for field number"
NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)")
LONG_TYPES = (
    '<span class="n">jaxtyping</span><span class="o">.</span>',
    '<span class="n">jaxlib</span><span class="o">.</span><span class="n">_jax</span><span class="o">.</span>',
    "jaxtyping.",
    "jaxlib._jax.",
)


def modules() -> list[ModuleType]:
    """All public modules of the library."""
    names = [found.name for found in pkgutil.walk_packages(jaxmlip.__path__, "jaxmlip.")]
    public = [name for name in names if name.split(".")[1] not in HIDDEN and "._" not in name]
    return [jaxmlip, *map(importlib.import_module, public)]


def describe_fields(module: ModuleType) -> None:
    """Gives the fields of named tuples the comments, or texts, that stand with them in the source as docstrings."""
    for kind in vars(module).values():
        fields: tuple[str, ...] = getattr(kind, "_fields", ())
        if not (inspect.isclass(kind) and kind.__module__ == module.__name__ and fields):
            continue
        source = inspect.getsource(kind)
        kind.__new__.__doc__ = " "  # not "Create new instance of …"
        for name in fields:
            found = re.search(rf"^    {name}: .*?  # (.*)$", source, re.MULTILINE)
            if (getattr(kind, name).__doc__ or "").startswith(ALIAS):
                getattr(kind, name).__doc__ = found[1] if found else ""


def docstrings(module: ModuleType) -> Iterator[tuple[str, list[str]]]:
    """Each docstring of a module's source with the names of the classes and functions that it stands in."""

    def visit(node: ast.AST, inside: list[str]) -> Iterator[tuple[str, list[str]]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                yield str(child.value.value), inside
            name = getattr(child, "name", None)
            if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                yield from visit(child, [*inside, str(name)])

    yield from visit(ast.parse(inspect.getsource(module)), [])


def resolves(name: str, module: ModuleType, inside: list[str]) -> bool:
    """Whether a name means something where it stands: in a class, in the module, in the package, or in full."""
    holders = [vars(module).get(part) for part in inside]
    found = [has(holder, name) for holder in [*holders, module, jaxmlip, *packages(module)] if holder is not None]
    first, _, rest = name.partition(".")
    if first == "jaxmlip":
        return has(jaxmlip, rest)
    return any(found) or importlib.util.find_spec(first) is not None  # another library's


def packages(module: ModuleType) -> list[ModuleType]:
    """The packages that a module stands in."""
    parts = module.__name__.split(".")
    return [sys.modules[".".join(parts[:k])] for k in range(1, len(parts))]


def has(holder: object, path: str) -> bool:
    """Whether ``holder.path`` exists."""
    for part in path.split("."):
        if hasattr(holder, part):
            holder = getattr(holder, part)
        elif part not in getattr(holder, "__dataclass_fields__", {}):
            return False
    return True


def main() -> None:
    """Writes the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "The module specification")  # a package names some of its modules too
    found = modules()
    unknown = [
        f"{module.__name__}: `{name}`"
        for module in found
        for text, inside in docstrings(module)
        for name in NAME.findall(text)
        if not resolves(name, module, inside)
    ]
    if unknown:
        sys.exit("names in docstrings that are nothing in the library:\n" + "\n".join(unknown))
    for module in found:
        describe_fields(module)
    pdoc.render.configure(docformat="google", footer_text=f"jaxmlip {jaxmlip.__version__}")
    pdoc.pdoc(*(module.__name__ for module in found), output_directory=folder)
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for long in LONG_TYPES:
            text = text.replace(long, "")
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
