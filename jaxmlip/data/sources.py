"""The files that a path stands for: one, all of a folder, or those that match a pattern."""

import difflib
import glob
import re
from pathlib import Path

from jaxmlip.data.packed import check_complete, is_packed
from jaxmlip.data.textfile import format_suffix

DUMPS = (".lammpstrj", ".dump", ".lammpsdump")
_IN_FOLDERS = frozenset(
    [".xsf", ".xyz", ".extxyz", ".cfg", ".json", ".jsonl", ".traj", ".db", ".xml", "OUTCAR", *DUMPS]
)


def find_files(path: str | Path) -> tuple[list[Path], bool]:
    """The files to read, and whether the path stood for several."""
    target = Path(path)
    if is_packed(target):
        return [target], False
    if target.is_dir():
        return _folder_files(target), True
    if target.exists():
        return [target], False
    if glob.has_magic(str(path)):
        found = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)  # noqa: PTH207 - absolute patterns
        if found:
            return found, True
        raise FileNotFoundError(f"no file matches {path}")
    parent = target.parent
    names = [item.name for item in parent.iterdir()] if parent.is_dir() else []
    near = difflib.get_close_matches(target.name, names, n=1)
    hint = f"; did you mean {parent / near[0]}?" if near else "; check the path"
    raise FileNotFoundError(f"there is no file or folder {target}{hint}")


def _folder_files(folder: Path) -> list[Path]:
    check_complete(folder)
    files = [item for item in folder.rglob("*") if item.is_file() and file_kind(item) in _IN_FOLDERS]
    files = [item for item in files if not any(part.startswith(".") for part in item.relative_to(folder).parts)]
    kinds = sorted({file_kind(item) for item in files})
    if not files:
        raise ValueError(f"{folder}: no structure files in this folder; expected {', '.join(sorted(_IN_FOLDERS))}")
    if len(kinds) > 1:
        raise ValueError(
            f"{folder}: the folder holds several kinds of file ({', '.join(kinds)}), perhaps the same data twice; name "
            f"one with a pattern such as {str(folder / '**' / '*') + kinds[0]!r}"
        )
    return sorted(files, key=_natural)


def file_kind(path: Path) -> str:
    """The suffix that tells the format, or OUTCAR."""
    return "OUTCAR" if "OUTCAR" in path.name else format_suffix(path)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]
