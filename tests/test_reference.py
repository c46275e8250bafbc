"""The reference is complete: settings have texts, arrays in public signatures have shapes, entry points have examples.

Tuples that pack arguments, whose meaning then stands nowhere, are counted, and the count may only fall.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "jaxmlip"
BARE_TUPLES = 6
"""The most there may be; three whole numbers, or two limits, are a value and not counted."""
PROTOCOL = {"primals", "tangents", "args", "axes", "rows"}
"""Of JAX's rules of differentiation and batching, and of maps over blocks, which hand in tuples."""
ARRAYS = {"Array", "ndarray"}
SHAPED = {"Float", "Int", "Integer", "Bool", "Shaped", "Num", "Complex", "Inexact", "PRNGKeyArray", "Key", "UInt"}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def is_dataclass(node):
    return isinstance(node, ast.ClassDef) and any("frozen=True" in ast.unparse(one) for one in node.decorator_list)


def fields_without_text(tree):
    """Fields of frozen dataclasses, which settings are, that no string follows."""
    for kind in filter(is_dataclass, ast.walk(tree)):
        for node, after in zip(kind.body, [*kind.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if not told:
                    yield f"{kind.name}.{ast.unparse(node.target)}"


def bare_array(annotation):
    """Whether an annotation has an array whose shape it does not tell."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).split(".")[-1] in SHAPED:
        return False
    name = getattr(annotation, "attr", getattr(annotation, "id", None))
    if isinstance(annotation, (ast.Attribute, ast.Name)):
        return name in ARRAYS
    return any(bare_array(child) for child in ast.iter_child_nodes(annotation))


def functions_with_bare_arrays(tree):
    """Public functions of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            given = [one.annotation for one in [*node.args.args, *node.args.kwonlyargs]]
            if any(bare_array(one) for one in [*given, node.returns] if one is not None):
                yield node.name


def entry_points():
    """The functions that the packages of the library offer by name, and their docstrings."""
    trees = dict(modules())
    for path, tree in trees.items():
        if not path.endswith("__init__.py") or path.startswith("commands"):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{path}: {node.name}", ast.get_docstring(node)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxmlip."):
                home = trees.get("/".join(node.module.split(".")[1:]) + ".py", ast.Module([], []))
                for name in {one.name for one in node.names} & exported(tree):
                    for found in home.body:
                        if isinstance(found, ast.FunctionDef) and found.name == name:
                            yield f"{path}: {name}", ast.get_docstring(found)


def exported(tree):
    """The names in ``__all__``."""
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AugAssign)) and "__all__" in ast.unparse(node)
    ]
    return {str(one.value) for found in lists for one in ast.walk(found) if isinstance(one, ast.Constant)}


def test_every_settings_field_has_its_text():
    missing = [f"{path}: {name}" for path, tree in modules() for name in fields_without_text(tree)]
    assert not missing


def test_arrays_in_public_signatures_have_shapes():
    missing = [f"{path}: {name}" for path, tree in modules() for name in functions_with_bare_arrays(tree)]
    assert not missing


def test_entry_points_have_examples():
    found = dict(entry_points())
    assert "fitting/__init__.py: fit" in found
    assert "simulate/__init__.py: relax" in found
    assert not [name for name, text in found.items() if ">>>" not in (text or "")]
    assert not [name for name, text in found.items() if "+SKIP" in (text or "") and "Not run here" not in (text or "")]


def bare_tuple(annotation):
    """Whether a type is a tuple of several things: no `NamedTuple`, and not numbers or names of one kind."""
    if isinstance(annotation, ast.BinOp):
        return bare_tuple(annotation.left) or bare_tuple(annotation.right)
    if not isinstance(annotation, ast.Subscript):
        return getattr(annotation, "id", "") == "tuple"
    if ast.unparse(annotation.value) != "tuple":
        return False
    kinds = {ast.unparse(one) for one in getattr(annotation.slice, "elts", [annotation.slice])}
    return "..." not in kinds and not any(kinds <= {kind} for kind in ("int", "float", "str"))


def bare_tuples(tree):
    """Parameters of functions and methods."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body if isinstance(node, ast.FunctionDef)):
        for one in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            if one.annotation is not None and one.arg not in PROTOCOL and bare_tuple(one.annotation):
                yield f"{node.name}({one.arg})"


def test_arguments_are_not_packed_into_tuples():
    found = [f"{path}: {name}" for path, tree in modules() for name in bare_tuples(tree)]
    assert len(found) <= BARE_TUPLES, found


def test_counting_notices_what_is_missing():
    tree = ast.parse(
        '''
@dataclass(frozen=True)
class Settings:
    told: int = 1
    """Its text."""
    blank: int = 2

def shaped(x: Float[Array, "n 3"], key: Array | None) -> Float[np.ndarray, " n"]: ...
def fine(x: Float[Array, "n 3"] | None) -> dict[str, Float[Array, " n"]]: ...
'''
    )
    assert list(fields_without_text(tree)) == ["Settings.blank"]
    assert list(functions_with_bare_arrays(tree)) == ["shaped"]
    tree = ast.parse("def packed(at: tuple[Array, int], how: tuple | None, cell: tuple[int, int], *rest: tuple): ...")
    assert list(bare_tuples(tree)) == ["packed(at)", "packed(how)"]
