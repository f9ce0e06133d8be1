"""One thing that looks wrong, and several of a kind together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that looks wrong: `kind` names it, `text` says what was seen, `advice` what to do.

    `advice` is empty where `text` says that too. `severity` is "serious" (the result can not be
    relied on), "warning" or "note".
    """

    kind: str
    severity: Severity
    text: str
    advice: str

    def to_json(self) -> dict[str, str]:
        """As one JSON-able object."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class AlertGroup:
    """The alerts of one kind and severity: all that was seen, and each advice once."""

    kind: str
    severity: Severity
    texts: list[str]
    advice: list[str]


def grouped(alerts: Sequence[Alert]) -> list[AlertGroup]:
    """Alerts of one kind together, in the order in which the kinds come first.

    >>> one = Alert(kind="leak", severity="serious", text="a leaks.", advice="Split anew.")
    >>> two = Alert(kind="leak", severity="serious", text="b leaks.", advice="Split anew.")
    >>> grouped([one, two])[0].texts, grouped([one, two])[0].advice
    (['a leaks.', 'b leaks.'], ['Split anew.'])
    """
    groups: dict[tuple[Severity, str], list[Alert]] = {}
    for alert in alerts:
        groups.setdefault((alert.severity, alert.kind), []).append(alert)
    return [
        AlertGroup(
            kind=kind,
            severity=severity,
            texts=list(dict.fromkeys(alert.text for alert in members)),
            advice=list(dict.fromkeys(alert.advice for alert in members if alert.advice)),
        )
        for (severity, kind), members in groups.items()
    ]
