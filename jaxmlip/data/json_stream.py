"""JSON files of any size, record by record: memory holds one record, however many gigabytes the file has.

A record is an object with a ``structure`` of pymatgen; it may stand alone, in a list, one on a line, under keys (two
levels of them in MPtrj) or in a list under a key. Comment lines (#) before the JSON are passed over.
"""

import json
from collections.abc import Iterator
from io import BufferedIOBase
from itertools import chain
from typing import Any, NamedTuple, cast

import ijson
from ijson.common import ObjectBuilder

_WHOLE = 2**28  # bytes: up to here a file with NaN, which is no JSON, is read as Python writes it, all at once

Event = tuple[str, Any]


class Record(NamedTuple):
    """An object of the file, and the keys and numbers that lead to it."""

    path: tuple[str | int, ...]
    value: dict[str, Any]


class _Layout(NamedTuple):
    """Where the records are: the kinds of the containers around them; or a FitSNAP data set, which is one object."""

    containers: tuple[str, ...]
    is_fitsnap: bool = False


def layout(file: BufferedIOBase, name: str) -> _Layout | None:
    """Where the records of a JSON file stand; None where there are none (an ASE database, say). Rewinds the file.

    Raises:
        ValueError: not JSON.
    """
    skip_comments(file)
    start = file.tell()
    containers: list[str] = []
    found, previous = None, None
    for event, value in _events(file, name):
        if previous == "Dataset" and len(containers) == 1:
            found = _Layout((), is_fitsnap=True)
        if previous == "structure" and event == "start_map":
            found = _Layout(tuple(containers[:-1]))
        if found:
            break
        if event in ("start_map", "start_array"):
            containers.append(event)
        elif event in ("end_map", "end_array"):
            containers.pop()
        previous = value if event == "map_key" else None
    file.seek(start)
    return found


def records(file: BufferedIOBase, name: str, where: _Layout) -> Iterator[Record]:
    """The records of a file that begins with them, one by one.

    Raises:
        ValueError: not JSON, or cut off, with the number of records that were whole.
    """
    start, count = file.tell(), 0
    containers: list[list[Any]] = []  # of each the kind, and the key or number of what is being read
    try:
        events = _raw_events(file)
        for event, value in events:
            if event == "map_key":
                containers[-1][1] = value
                continue
            if containers and containers[-1][0] == "start_array" and not event.startswith("end"):
                containers[-1][1] += 1
            if event == "start_map" and tuple(kind for kind, _ in containers) == where.containers:
                yield Record(tuple(key for _, key in containers), _built(events))
                count += 1
            elif event in ("start_map", "start_array"):
                containers.append([event, -1])
            elif event in ("end_map", "end_array"):
                containers.pop()
    except (ijson.JSONError, UnicodeDecodeError) as error:
        whole = _whole(file, start) if not count and b"N" in str(error).encode() else None
        if whole is None:
            raise ValueError(
                f"{name}: not valid JSON after {count} whole records: {_first_line(error)}; it may have been cut off"
            ) from None
        yield from _nested(whole, where.containers, ())


def _nested(value: Any, containers: tuple[str, ...], path: tuple[str | int, ...]) -> Iterator[Record]:
    """The records of an object that is in memory."""
    if not containers:
        if isinstance(value, dict):
            yield Record(path, value)
    elif isinstance(value, dict if containers[0] == "start_map" else list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        yield from chain.from_iterable(_nested(item, containers[1:], (*path, key)) for key, item in items)


def load_all(file: BufferedIOBase, name: str) -> Any:
    """The whole content of a small JSON file.

    Raises:
        ValueError: not JSON.
    """
    skip_comments(file)
    try:
        return json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not valid JSON: {_first_line(error)}; it may have been cut off") from None


def skip_comments(file: BufferedIOBase) -> None:
    """Move to the first line that is no comment."""
    start = file.tell()
    while file.readline(2**20).lstrip().startswith(b"#"):
        start = file.tell()
    file.seek(start)


def _raw_events(file: BufferedIOBase) -> Iterator[Event]:
    return iter(ijson.basic_parse(file, multiple_values=True, use_float=True))


def _events(file: BufferedIOBase, name: str) -> Iterator[Event]:
    try:
        yield from _raw_events(file)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not valid JSON: {_first_line(error)}; it may have been cut off") from None


def _built(events: Iterator[Event]) -> dict[str, Any]:
    """The object whose ``start_map`` was just read."""
    builder, depth = ObjectBuilder(), 1
    builder.event("start_map", None)
    for event, value in events:
        builder.event(event, value)
        depth += (event in ("start_map", "start_array")) - (event in ("end_map", "end_array"))
        if not depth:
            return cast(dict[str, Any], builder.value)
    raise ijson.IncompleteJSONError("the last object has no end")


def _whole(file: BufferedIOBase, start: int) -> Any:
    """The content as Python's own reader takes it, which knows NaN; None where it is too large or no JSON either."""
    file.seek(start)
    text = file.read(_WHOLE)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _first_line(error: Exception) -> str:
    text = error.args[0] if error.args else error
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return " ".join(text.split("\n")[0].split())[:120]
