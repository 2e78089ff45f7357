"""Compare pools, limits, variables and blocks of a Prefect server with what is declared.

Each `plan_` function yields one `Step` per declared thing, with what differs and how to mend it;
nothing is written before `Step.run` is called. Fields that are not declared are left alone.
Pools, limits and blocks carry no tags in Prefect, so they are never deleted.
Not here: deployments and automations (`registration`), printing (deploy/prefect/apply.py).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    VariableCreate,
    VariableUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound

from batch.flows.declared import Resources
from stream.errors import ConfigError

Fields = Mapping[str, Any]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing compared. `verb`: create, update, delete, unchanged, or skip with a `note`."""

    kind: str
    name: str
    verb: str
    fields: tuple[str, ...] = ()
    run: Callable[[], object] | None = None
    note: str = ""

    def __str__(self) -> str:
        detail = self.note or ", ".join(self.fields)
        return f"{self.kind:<11} {self.name:<36} {self.verb}" + (f" ({detail})" if detail else "")


def compare(have: Fields | None, want: Fields) -> tuple[str, tuple[str, ...]]:
    """Create, update or unchanged, and the names of the fields that differ.

    >>> compare({"a": 1, "b": 2}, {"a": 1, "b": 3})
    ('update', ('b',))
    """
    if have is None:
        return "create", ()
    differing = tuple(name for name, value in want.items() if have.get(name) != value)
    return ("update", differing) if differing else ("unchanged", ())


def build_step(
    kind: str,
    name: str,
    have: Fields | None,
    want: Fields,
    *,
    create: Callable[[], object],
    update: Callable[[], object],
) -> Step:
    """The step that turns what is there into what is wanted."""
    verb, fields = compare(have, want)
    runs = {"create": create, "update": update}
    return Step(kind, name, verb, fields, runs.get(verb))


def find(read: Callable[[], Found]) -> Found | None:
    """What a read returns, None if the server has no such thing."""
    try:
        return read()
    except ObjectNotFound:
        return None


def plan_pools(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Work pools. Raises: ConfigError for one of another type: that cannot be changed."""
    for pool in resources.pools:
        name, kind = pool["name"], pool["type"]
        want = {key: value for key, value in pool.items() if key not in {"name", "type"}}
        have = find(partial(client.read_work_pool, name))
        if have is not None and have.type != kind:
            raise ConfigError(
                f"pool {name!r} is of type {have.type!r} on this server and {kind!r} on stack "
                f"{resources.stack!r}; is PREFECT_API_URL the server of that stack?"
            )
        yield build_step(
            "pool",
            name,
            have.model_dump() if have else None,
            want,
            create=partial(client.create_work_pool, WorkPoolCreate(name=name, type=kind, **want)),
            update=partial(client.update_work_pool, name, WorkPoolUpdate(**want)),
        )


def plan_limits(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Global concurrency limits; slots that are in use stay in use."""
    for want in resources.limits:
        name = want["name"]
        have = find(partial(client.read_global_concurrency_limit_by_name, name))
        create = partial(
            client.create_global_concurrency_limit, GlobalConcurrencyLimitCreate(**want)
        )
        update = partial(
            client.update_global_concurrency_limit, name, GlobalConcurrencyLimitUpdate(**want)
        )
        found = have.model_dump() if have else None
        yield build_step("limit", name, found, want, create=create, update=update)


def plan_variables(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Variables, tagged as ours."""
    for item in resources.variables:
        want = {**item, "tags": [resources.tag]}
        have = client.read_variable_by_name(item["name"])
        create = partial(client.create_variable, VariableCreate(**want))
        update = partial(client.update_variable, VariableUpdate(**want))
        found = have.model_dump() if have else None
        yield build_step("variable", item["name"], found, want, create=create, update=update)


def plan_blocks(client: SyncPrefectClient, resources: Resources) -> Iterator[Step]:
    """Blocks; a secret is compared but never shown."""
    del client  # blocks bring their own
    for item in resources.blocks:
        block = _block_class(item["type"])(**item["values"])
        have = load_block(item["type"], item["name"])
        save = partial(block.save, item["name"], overwrite=True)
        name = f"{item['type']}/{item['name']}"
        found = have.model_dump() if have else None
        yield build_step("block", name, found, block.model_dump(), create=save, update=save)


def load_block(kind: str, name: str) -> Block | None:
    """A block of the server, None if it has none of that name."""
    try:
        block: Any = _block_class(kind).load(name)
    except ValueError:  # what Prefect raises for a document that does not exist
        return None
    return block if isinstance(block, Block) else None


def block_id(block: Block) -> Any:
    """The id that automations refer to."""
    return block._block_document_id  # noqa: SLF001 - there is no public way to it


def _block_class(kind: str) -> type[Block]:
    """Raises: ConfigError for a kind that neither Prefect nor prefect-aws knows."""
    for module in ("prefect.blocks.notifications", "prefect_aws"):
        importlib.import_module(module)  # registers its kinds; seconds that `local` need not pay
    try:
        return Block.get_block_class_from_key(kind)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"no kind of block is called {kind!r}") from error
