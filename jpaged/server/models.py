"""The models that are served: names, their versions, and labels that point to versions.

    "fox" ──► "fox@v2" ◄── stable        find("fox"), find("fox@stable"), find("fox@v2")
              "fox@v3" ◄── canary        find("fox@canary")

A name alone means its version with the label `stable`, or else the one that was loaded first.  Load
the new, move the label, unload the old: every request is served by the version that it found.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jpaged.engine.client import EngineClient
from jpaged.engine.defaults import sampling_defaults
from jpaged.errors import RequestRejected
from jpaged.server.admission import Admission
from jpaged.server.errors import ApiError, UnknownModel

STABLE = "stable"
FIRST_VERSION = "1"
NAME = re.compile(r"[A-Za-z0-9._/~][A-Za-z0-9._/:~+-]{0,254}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
POLL_SECONDS = 0.02

Launch = Callable[[str, str], Awaitable[EngineClient]]  # name, path


@dataclass(eq=False)
class Served:
    """One version of a model, its engine and its queue."""

    name: str
    version: str
    engine: EngineClient
    admission: Admission
    defaults: dict[str, Any] = field(default_factory=dict)  # of SamplingParams
    chat_template: str | None = None
    template_words: dict[str, str] = field(default_factory=dict)  # what it knows: bos_token, …
    longest_token: int = 1  # in characters, or more
    num_held: int = 0  # requests that found it and are not in its queue yet

    @classmethod
    def of(
        cls,
        name: str,
        version: str,
        engine: EngineClient,
        admission: Admission,
        chat_template: str | None = None,
    ) -> "Served":
        defaults, tokenizer = sampling_defaults(Path(engine.card.folder)), engine.door.tokenizer
        if tokenizer is None:
            return cls(name, version, engine, admission, defaults)
        tokenizer.encode("")  # the first call sets the backend up, which no thread may see
        return cls(
            name,
            version,
            engine,
            admission,
            defaults,
            chat_template=chat_template or _template_of(tokenizer.hf),
            template_words=dict(tokenizer.hf.special_tokens_map),
            longest_token=max(map(len, tokenizer.backend.get_vocab()), default=1),
        )

    @property
    def has_text(self) -> bool:
        """False where no tokenizer was loaded: prompts and answers are token ids."""
        return self.engine.door.tokenizer is not None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps it from being closed meanwhile."""
        self.num_held += 1
        try:
            yield
        finally:
            self.num_held -= 1

    @property
    def is_idle(self) -> bool:
        return not self.num_held and not self.admission.num_live


def _template_of(hf: Any) -> str | None:
    return hf.get_chat_template() if hf.chat_template else None


class Models:
    """launch: begins an engine for a model that is loaded while the server runs."""

    def __init__(
        self,
        new_admission: Callable[[], Admission],
        launch: Launch | None = None,
        chat_template: str | None = None,
    ):
        self.new_admission, self.launch, self.chat_template = new_admission, launch, chat_template
        self.listeners: list[Callable[[Served], None]] = []  # hear of each that is added
        self._versions: dict[str, dict[str, Served]] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._aliases: dict[str, str] = {}
        self._loading: set[tuple[str, str]] = set()

    def add(self, name: str, engine: EngineClient, version: str = FIRST_VERSION) -> Served:
        """Serves an engine from now on."""
        _check_names(name, version)
        self._refuse_known(name, version)
        served = Served.of(name, version, engine, self.new_admission(), self.chat_template)
        self._versions.setdefault(name, {})[version] = served
        self._labels.setdefault(name, {})
        for listener in self.listeners:
            listener(served)
        return served

    def alias(self, name: str, others: Sequence[str]) -> None:
        """Other names for the same model."""
        for other in others:
            _check_names(other)
        self._aliases |= dict.fromkeys(others, name)

    def find(self, reference: str) -> Served:
        """ "" is the first model.  Raises `UnknownModel`."""
        if not reference and self._versions:
            reference = next(iter(self._versions))
        name, _, rest = reference.partition("@")
        name = self._aliases.get(name, name)
        versions, labels = self._versions.get(name), self._labels.get(name, {})
        if not versions:
            raise UnknownModel(reference)
        wanted = labels.get(rest or STABLE, rest or next(iter(versions)))
        if wanted not in versions:
            raise UnknownModel(reference)
        return versions[wanted]

    def __iter__(self) -> Iterator[Served]:
        return (served for versions in self._versions.values() for served in versions.values())

    def names(self) -> dict[str, Served]:
        """What `find` takes: names, then versions and labels of those that have several."""
        names = [*self._versions, *self._aliases]
        for name, versions in self._versions.items():
            known = (*versions, *self._labels[name])
            names += [f"{name}@{each}" for each in known] if len(known) > 1 else ()
        return {name: self.find(name) for name in names}

    def labels(self, name: str) -> dict[str, str]:
        return dict(self._labels.get(name, {}))

    async def load(
        self, name: str, version: str, path: str, labels: tuple[str, ...] = ()
    ) -> Served:
        """Begins an engine and serves it when it is ready; labels move to it then."""
        _check_names(name, version, *labels)
        self._refuse_known(name, version)
        if self.launch is None:
            raise ApiError(400, "This server loads no models while it runs.")
        self._loading.add((name, version))
        try:
            engine = await self.launch(name, path)
            self._loading.discard((name, version))
            served = self.add(name, engine, version)
        finally:
            self._loading.discard((name, version))
        self._labels[name] |= dict.fromkeys(labels, version)
        return served

    def move_labels(self, name: str, labels: Mapping[str, str | None]) -> None:
        """All at once; None takes a label away."""
        versions = self._versions.get(name)
        if versions is None:
            raise UnknownModel(name)
        for label, version in labels.items():
            _check_names(name, label)
            if label in versions:
                raise ApiError(400, f"{label!r} is a version; call the label something else.")
            if version is not None and version not in versions:
                raise UnknownModel(f"{name}@{version}")
        moved = {**self._labels[name], **labels}
        self._labels[name] = {label: to for label, to in moved.items() if to is not None}

    async def unload(self, name: str, version: str) -> None:
        """Finds it no more, lets its requests finish, and closes its engine."""
        versions = self._versions.get(name, {})
        if version not in versions:
            raise UnknownModel(f"{name}@{version}")
        pointing = [label for label, to in self._labels[name].items() if to == version]
        if pointing and len(versions) > 1:
            raise ApiError(400, f"{', '.join(pointing)} points to it; move the label first.")
        served = versions.pop(version)
        if not versions:
            del self._versions[name], self._labels[name]
            self._aliases = {alias: to for alias, to in self._aliases.items() if to != name}
        while not served.is_idle:
            await asyncio.sleep(POLL_SECONDS)
        await served.engine.close()

    async def close(self) -> None:
        for served in list(self):
            await served.engine.close()
        self._versions.clear()

    @property
    def is_healthy(self) -> bool:
        return all(served.engine.is_healthy for served in self)

    @property
    def are_alive(self) -> bool:
        """False once an engine is gone for good."""
        return not any(served.engine.is_gone for served in self)

    def _refuse_known(self, name: str, version: str) -> None:
        if version in self._versions.get(name, {}) or (name, version) in self._loading:
            raise ApiError(400, f"{name}@{version} is loaded; choose another version.")
        if version in self._labels.get(name, {}):
            raise ApiError(400, f"{version!r} is a label of {name}; choose another version.")


def split_name(reference: str) -> tuple[str, str]:
    """name@version -> both; a name alone has the first version."""
    name, _, version = reference.partition("@")
    return name, version or FIRST_VERSION


def _check_names(name: str, *versions: str) -> None:
    if not NAME.fullmatch(name):
        raise RequestRejected(f"{name!r} is no name for a model; it must match {NAME.pattern}")
    for version in versions:
        if not VERSION.fullmatch(version):
            raise RequestRejected(f"{version!r} must match {VERSION.pattern}")
