"""Where each key of the lake lies: all under one root, or some zones in buckets of their own.

A path is routed by its top folder (`layout.ZONES`); what no zone names lies in the lake itself. A
lake without zones of its own never looks at a path. Pure: no I/O.
Not here: which folder is of which zone (`layout`), opening buckets and calling them (`store`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from obstore.store import LocalStore, MemoryStore, S3Store

Backend = S3Store | LocalStore | MemoryStore


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket (or folder) and a prefix in it. `root`: its address, without a slash at the end.
    `setting`: the variable that says where it is, for messages.
    """

    backend: Backend
    root: str
    setting: str = "HEADRACE_LAKE"


class Places:
    """The lake's own place, and those of the top folders that lie elsewhere.

    Roots are equal or lie apart (`settings` refuses others), so an address is of one place at most.
    """

    def __init__(self, home: Place, folders: Mapping[str, Place] | None = None) -> None:
        self.home = home
        self.folders: Mapping[str, Place] = {
            folder: place for folder, place in (folders or {}).items() if place.root != home.root
        }
        """Top folder → place, of those that do not lie in the lake itself."""

    def of(self, path: str) -> Place:
        """The place of an object, or of a folder."""
        if not self.folders:
            return self.home
        return self.folders.get(path.partition("/")[0], self.home)

    def uri(self, path: str) -> str:
        """The absolute address of an object."""
        return f"{self.of(path).root}/{path}"

    def relative(self, uri: str) -> str:
        """The path of an absolute address; one that `uri` never gives stays as it is."""
        for place in self:
            inside = uri.removeprefix(f"{place.root}/")
            if inside != uri and self.of(inside) is place:
                return inside
        return uri

    def below(self, prefix: str) -> Iterator[tuple[Place, str]]:
        """What to list for the objects below a folder: "" is the whole lake, in every place."""
        yield self.of(prefix), prefix
        if not prefix:
            yield from ((place, f"{folder}/") for folder, place in self.folders.items())

    @property
    def roots(self) -> tuple[str, ...]:
        """Every root once, the lake's own first."""
        return tuple(place.root for place in self)

    def __iter__(self) -> Iterator[Place]:
        found = {place.root: place for place in (self.home, *self.folders.values())}
        return iter(found.values())
