"""The frame of every page: its style, its head, and the scripts it brings along.  Nothing is loaded
from anywhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from math import isfinite
from string import Template
from typing import Any

ASSETS = files("jpaged.analysis") / "assets"


def framed(
    title: str,
    about: Mapping[str, object],
    sections: Mapping[str, str],
    body: str,
    scripts: Sequence[str],
    data: Mapping[str, Any] | None = None,
) -> str:
    """The page's HTML.  sections: the links to them, by id.  data: what scripts find in #data."""
    links = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in sections.items())
    chips = [(name.replace("_", " "), _plain(value)) for name, value in about.items()]
    return Template(asset("frame.html")).substitute(
        title=escape(title),
        style=asset("report.css"),
        about="".join(f"<li><b>{escape(name)}</b> {escape(text)}</li>" for name, text in chips),
        links=links,
        body=body,
        data="" if data is None else _embedded(data),
        script="\n".join(map(asset, ("basics.js", "theme.js", *scripts))),
    )


def asset(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _embedded(data: Mapping[str, Any]) -> str:
    """As JSON that no text in it can end early."""
    text = json.dumps(_rounded(data), separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>'


def _rounded(value: Any) -> Any:
    """Nine digits are more than any screen shows; JSON knows no infinity."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
