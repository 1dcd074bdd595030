"""JSON objects read strictly: every value checked, every key used or refused, every error with its place."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LARGEST = 1e15  # numbers beyond it are mistakes
REQUIRED: Any = object()


def read_json(path: str | os.PathLike) -> Section:
    """The object that a JSON file holds.

    Raises:
        ValueError: not JSON, not an object, or a key that occurs twice.
        FileNotFoundError: no such file.
    """

    def unique(pairs):
        keys = [key for key, _ in pairs]
        twice = {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else None
        if twice:
            raise ValueError(f"the key {sorted(twice)[0]!r} occurs twice in one object")
        return dict(pairs)

    try:
        data = json.loads(Path(path).read_bytes(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    return Section(data, str(path))


class Section:
    """An object of a JSON file; asking for a key marks it as used, and `finish` refuses what nobody asked for.

    >>> part = Section({"size": 2.0, "colour": "red"}, "a.json")
    >>> part.number("size", above=0.0)
    2.0
    >>> part.finish("color")
    Traceback (most recent call last):
    ValueError: a.json: unknown key 'colour', did you mean 'color'?
    """

    def __init__(self, data: Any, where: str):
        if not isinstance(data, dict):
            raise ValueError(f"{where}: expected an object, got {_kind(data)}")
        self.data, self.where, self.used = data, where, set()

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def error(self, message: str) -> ValueError:
        return ValueError(f"{self.where}: {message}")

    def get(self, key: str, default: Any = REQUIRED, *, also: str = "") -> Any:
        """The raw value; `also` is another spelling of the key."""
        self.used |= {key, also}
        given = [name for name in (key, also) if name and name in self.data]
        if len(given) > 1:
            raise self.error(f"gives both {key!r} and {also!r}, which are one thing")
        if not given:
            if default is REQUIRED:
                raise self.error(f"lacks {key!r}")
            return default
        return self.data[given[0]]

    def number(
        self, key: str, default: Any = REQUIRED, *, above: float = -LARGEST, least: float = -LARGEST, most=LARGEST
    ) -> Any:
        """One finite number in (above, most] and not less than `least`."""
        value = self.get(key, default)
        if key not in self.data:
            return value
        number = _number(value)
        if number is None or not (above < number and least <= number <= most):
            limits = [f"greater than {above:g}"] * (above > -LARGEST) + [f"at least {least:g}"] * (least > -LARGEST)
            limits += [f"at most {most:g}"] * (most < LARGEST)
            raise self.error(f"{key} must be a number{' ' * bool(limits)}{' and '.join(limits)}, got {_short(value)}")
        return number

    def integer(self, key: str, default: Any = REQUIRED, *, least: int = 0, most: int = 10**9, also: str = "") -> Any:
        value = self.get(key, default, also=also)
        if value is default and key not in self.data and also not in self.data:
            return value
        number = _number(value)
        if number is None or number != int(number) or not least <= number <= most:
            raise self.error(f"{key} must be a whole number from {least} to {most}, got {_short(value)}")
        return int(number)

    def numbers(self, key: str, count: int | None, default: Any = REQUIRED) -> Any:
        """A list of `count` finite numbers (None: any count) as a tuple."""
        value = self.get(key, default)
        if key not in self.data:
            return value
        found = [_number(v) for v in value] if isinstance(value, list) else [None]
        if None in found or (count is not None and len(found) != count):
            many = "a list of" if count is None else str(count)
            raise self.error(f"{key} must hold {many} numbers, got {_short(value)}")
        return tuple(found)

    def text(self, key: str, default: Any = REQUIRED, *, choices=()) -> Any:
        value = self.get(key, default)
        if key not in self.data:
            return value
        if not isinstance(value, str) or (choices and value not in choices):
            wanted = f"one of {', '.join(map(repr, choices))}" if choices else "a text"
            raise self.error(f"{key} must be {wanted}, got {_short(value)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false, also as 1 or 0."""
        value = self.get(key, default)
        if value not in (True, False):
            raise self.error(f"{key} must be true or false, got {_short(value)}")
        return bool(value)

    def section(self, key: str, default: Any = REQUIRED) -> Any:
        """An object inside."""
        value = self.get(key, default)
        return Section(value, f"{self.where}: {key}") if key in self.data else value

    def sections(self, key: str) -> Iterator[Section]:
        """The objects of a list; none where the key is missing."""
        value = self.get(key, [])
        if not isinstance(value, list):
            raise self.error(f"{key} must be a list of objects, got {_kind(value)}")
        for k, item in enumerate(value):
            yield Section(item, f"{self.where}: {key}[{k}]")

    def make(self, build: Callable, *args, **options) -> Any:
        """What `build` makes of the values; its ValueError gets the place in the file."""
        try:
            return build(*args, **options)
        except ValueError as error:
            if str(error).startswith(self.where):
                raise
            raise self.error(str(error)) from None

    def finish(self, *known: str) -> None:
        """Refuses the keys that were neither used nor are `known`; those that begin with _ are comments."""
        for key in self.data:
            if key in self.used or key in known or key.startswith("_"):
                continue
            near = difflib.get_close_matches(key, sorted((self.used | set(known)) - {""}), 1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it, or begin it with _ if it is a comment"
            raise self.error(f"unknown key {key[:60]!r}, {hint}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) <= LARGEST else None


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a number")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
