"""The cursor: where a run stands in its plan, small enough for a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, get_args

from rightbatch.errors import OptionError, ResumeError
from rightbatch.plan.checks import is_integer
from rightbatch.plan.order import Order
from rightbatch.plan.orders import StoredOrder, stored_order, stored_order_from_json
from rightbatch.plan.plan import Remainder
from rightbatch.plan.token_plan import AnyPlan, TokenPlan

CURSOR_VERSION = 1

_LEAST = {"epoch": 0, "samples": 0, "batch_size": 1, "length": 1}


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far a run has come: `samples` consumed in `epoch`, of which plan and which data.

    It counts samples, not batches, so a run may go on with another batch size. `fingerprint`
    names the data; of the weights of a weighted order there is a digest. `token_batches` is what
    the batches of a `TokenPlan` follow from; None where a batch is a number of samples. Raises
    ResumeError where a field has the wrong type or an impossible value.

    >>> from rightbatch.plan.plan import Plan
    >>> plan = Plan(length=1000, batch_size=128, order=Order(kind="uniform"), seed=7)
    >>> cursor = Cursor.of(plan, epoch=3, samples=256, fingerprint="5ca1ab1e")
    >>> Cursor.from_json(cursor.to_json()) == cursor
    True
    >>> cursor.resume_point(plan)
    (3, 256)
    """

    seed: int
    epoch: int
    samples: int
    batch_size: int
    remainder: Remainder
    order: Order | StoredOrder
    length: int
    fingerprint: str
    token_batches: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for key in ("seed", "epoch", "samples", "batch_size", "length"):
            value, least = getattr(self, key), _LEAST.get(key)
            if not is_integer(value) or (least is not None and int(value) < least):
                wanted = "an integer" if least is None else f"an integer of at least {least}"
                raise _refuse(key, value, wanted)
            object.__setattr__(self, key, int(value))
        if self.samples > self.length:
            raise _refuse("samples", self.samples, f"at most the length, {self.length}")
        if self.remainder not in get_args(Remainder):
            raise _refuse("remainder", self.remainder, f"one of {', '.join(get_args(Remainder))}")
        if not isinstance(self.order, Order | StoredOrder):
            raise _refuse("order", self.order, "an Order")
        if not isinstance(self.fingerprint, str):
            raise _refuse("fingerprint", self.fingerprint, "a text")
        if self.token_batches is not None and not isinstance(self.token_batches, Mapping):
            raise _refuse("token_batches", self.token_batches, "a dict")

    @classmethod
    def of(cls, plan: AnyPlan, *, epoch: int, samples: int, fingerprint: str) -> Self:
        """The cursor of a run of `plan` that has consumed `samples` samples of `epoch`."""
        return cls(
            seed=plan.seed,
            epoch=epoch,
            samples=samples,
            batch_size=plan.batch_size,
            remainder=plan.remainder,
            order=stored_order(plan.order),
            length=plan.length,
            fingerprint=fingerprint,
            token_batches=plan.to_json() if isinstance(plan, TokenPlan) else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The cursor as a dict that `json.dumps` takes; `from_json` reads it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.token_batches is None:
            del values["token_batches"]  # as versions that know no token batches have written it
        return {"version": CURSOR_VERSION, **values, "order": self.order.to_json()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The cursor that `to_json` wrote.

        Raises ResumeError, naming the key, for another version, a missing or unknown key and a
        value of the wrong type.
        """
        if not isinstance(saved, Mapping):
            raise ResumeError(f"a cursor is a dict, not {type(saved).__name__}")
        version = saved.get("version")
        if version != CURSOR_VERSION or isinstance(version, bool):
            raise ResumeError(
                f"cursor key 'version' is {version!r}, and this rightbatch reads version "
                f"{CURSOR_VERSION}; resume with the rightbatch that wrote the cursor"
            )
        names = {field.name for field in fields(cls)}
        names -= {"token_batches"} - set(saved)
        for key in sorted(names - set(saved)):
            raise ResumeError(f"cursor key {key!r} is missing; the cursor is not whole")
        for key in sorted(set(saved) - names - {"version"}):
            raise ResumeError(f"cursor key {key!r} is not known to this rightbatch")
        values = {key: saved[key] for key in names}
        try:
            values["order"] = stored_order_from_json(saved["order"])
        except OptionError as error:
            raise ResumeError(f"cursor key 'order': {error}") from error
        return cls(**values)

    def check(self, plan: AnyPlan, fingerprint: str, allow_new_batch_size: bool = False) -> None:
        """Raise ResumeError, naming every difference, unless `plan` may go on from here."""
        differences = [
            f"{name}: {old} in the cursor, {new} now"
            for name, old, new in (
                ("data fingerprint", self.fingerprint, fingerprint),
                ("samples in an epoch", self.length, plan.length),
                ("seed", self.seed, plan.seed),
                ("order", self.order, stored_order(plan.order)),
                ("remainder", self.remainder, plan.remainder),
            )
            if old != new
        ]
        remedies = []
        if differences:
            remedies.append("open the same data with the same options, or start a new run")
        if self.token_batches is not None or isinstance(plan, TokenPlan):
            differences += self._token_differences(plan)
            remedies += [_WHY_TOKENS] if differences else []
        elif self.batch_size != plan.batch_size and not allow_new_batch_size:
            differences.append(
                f"batch size: {self.batch_size} in the cursor, {plan.batch_size} now"
            )
            remedies.append(
                f"to go on with another batch size say so (allow_new_batch_size=True), "
                f"or use batch size {self.batch_size}"
            )
        if differences:
            raise ResumeError(
                f"the cursor belongs to another run: {'; '.join(differences)}. "
                f"Remedy: {'; '.join(remedies)}."
            )

    def _token_differences(self, plan: AnyPlan) -> list[str]:
        """In what the batches differ, where either side counts them in tokens."""
        before = self.token_batches
        now = plan.to_json() if isinstance(plan, TokenPlan) else None
        if before is None or now is None:
            size = f"of {(plan if now is None else self).batch_size:,} samples"
            tokens = f"of up to {(now or before or {}).get('tokens'):,} tokens"
            was, new = (size, tokens) if before is None else (tokens, size)
            return [f"batches: {was} in the cursor, {new} now"]
        different = [
            f"{name}: {before.get(key)} in the cursor, {now[key]} now"
            for name, key in (
                ("tokens of a batch", "tokens"),
                ("lengths of the samples", "lengths"),
                ("bucket edges", "bucket_edges"),
            )
            if before.get(key) != now[key]
        ]
        return different[:1]  # the others follow from it

    def resume_point(self, plan: AnyPlan) -> tuple[int, int]:
        """(epoch, samples consumed) where `plan` goes on.

        An epoch without a batch left, under `"drop"` too, is over: the next begins at 0.
        Raises ResumeError where token batches end at no such number of samples.
        """
        if isinstance(plan, TokenPlan) and not plan.is_boundary(self.samples, self.epoch):
            raise _refuse("samples", self.samples, "the samples of some whole batches of the epoch")
        if plan.batch_count(self.samples, self.epoch) == 0:
            return self.epoch + 1, 0
        return self.epoch, self.samples


_WHY_TOKENS = (
    "go on with the tokens, the edges and the transforms that it had, or start a new run: under "
    "others, the rest of an epoch would repeat some samples and miss others"
)


def _refuse(key: str, value: object, wanted: str) -> ResumeError:
    return ResumeError(f"cursor key {key!r} is {value!r}; it must be {wanted}")
