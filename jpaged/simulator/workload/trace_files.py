"""Lines of trace files and the values in them; whatever is wrong is named with file and line."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

from jpaged.errors import ConfigError

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
OTHER_MARKS = {";": "semicolons", "\t": "tabs"}  # as some spreadsheets write them


@dataclass(frozen=True)
class Line:
    """A row of a table, or an object of JSON, and where it stands."""

    path: Path
    number: int
    values: Mapping[str, Any]

    def fail(self, what: str) -> NoReturn:
        raise ConfigError(f"{self.path}:{self.number}: {what}")

    def _get(self, name: str) -> Any:
        value = self.values.get(name)
        if value is None or value == "":
            self.fail(f"{name} is missing")
        return value

    def seconds(self, name: str) -> float:
        """A time of 0 or more."""
        value = self._number(name)
        if value < 0:
            self.fail(f"{name} is {value:g}; times are 0 or more")
        return value

    def date(self, name: str) -> float:
        """Seconds since the year 2000; a date without a zone is taken as UTC's."""
        text = self._get(name)
        try:
            date = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            self.fail(f"{name} is {text!r}; a date like 2023-11-16 18:15:46.680590 is wanted")
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)) - EPOCH
        return seconds.total_seconds()

    def count(self, name: str, least: int = 1) -> int:
        """A whole number of tokens."""
        value = self._number(name)
        if value != int(value) or value < least:
            self.fail(f"{name} is {value:g}; a whole number of {least} or more is wanted")
        return int(value)

    def ids(self, name: str) -> list[int]:
        """A list of whole numbers that fit into 64 bits."""
        found = self._get(name)
        if not isinstance(found, list) or not all(
            type(each) is int and 0 <= each < 2**64 for each in found
        ):
            self.fail(f"{name} is {str(found)[:40]}; a list of whole numbers is wanted")
        return found

    def _number(self, name: str) -> float:
        value = self._get(name)
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            self.fail(f"{name} is {value!r}; a number is wanted")
        return number


def read_lines(path: Path) -> Iterator[Line]:
    """Rows of a CSV file with a header, or objects of a JSONL file: by how it begins.

    Raises `ConfigError` for a file that cannot be read, is neither, or has no rows.
    """
    line = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            begins_with = next((text.lstrip()[:1] for text in file if text.strip()), "")
            file.seek(0)
            for line in _objects(path, file) if begins_with in tuple("{[") else _rows(path, file):
                yield line
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a trace: {error}") from error
    if line is None:
        raise ConfigError(f"{path} is empty: it has no rows")


def _objects(path: Path, file: TextIO) -> Iterator[Line]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: no JSON ({error}); one object a line") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}:{number}: no JSON object; one a line is wanted")
        yield Line(path, number, values)


def _rows(path: Path, file: TextIO) -> Iterator[Line]:
    reader = csv.DictReader(file, skipinitialspace=True)
    names = reader.fieldnames or ()
    for mark, marks in OTHER_MARKS.items():
        if len(names) == 1 and mark in names[0]:
            Line(path, 1, {}).fail(
                f"{marks} stand between its columns; commas are wanted there, points in numbers"
            )
    for values in reader:
        line = Line(path, reader.line_num, values)
        if None in values:
            line.fail(f"more values than the {len(reader.fieldnames or ())} columns")
        yield line
