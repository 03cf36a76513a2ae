"""The values of the configuration: durations, rates, sizes, secrets.

The parsers are plain functions; they raise ValueError with a text that shows a valid value.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    Strict,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from relay.settings.durations import (
    DURATION_PATTERN,
    LONGEST,
    NUMBER,
    SECONDS,
    SPAN,
    as_float,
    format_duration,
    parse_duration,
    plain,
)
from relay.settings.formatting import describe

RATE_PATTERN = rf"^{NUMBER} ?/ ?(?:(?:ms|s|m|h|d)|{SPAN}(?: ?{SPAN})*)$"
SIZE_PATTERN = rf"^{NUMBER} ?(?:[kKmMgG][iI]?)?[bB]?$"

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}

_RATE = re.compile(RATE_PATTERN)
_SIZE = re.compile(rf"^({NUMBER}) ?([kKmMgG][iI]?)?[bB]?$")


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate: `count` messages in `period` seconds. Both are above 0."""

    count: float
    period: float = 1.0

    @property
    def per_second(self) -> float:
        """The average rate."""
        return self.count / self.period

    def __str__(self) -> str:
        period = format_duration(self.period)
        return f"{plain(Decimal(repr(float(self.count))))}/{period[1:] if period in _ONE else period}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            parse_rate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(_RATE_SCHEMA)


_ONE = frozenset({"1ms", "1s", "1m", "1h", "1d"})
_RATE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": RATE_PATTERN,
    "examples": ["100/s", "600000/m", "20/10s"],
}


def parse_rate(value: object) -> Rate:
    """Return the rate in a text such as `100/s`, `600000/m`, `10/h` or `20/10s`. Raises ValueError."""
    if isinstance(value, Rate):
        return value
    if isinstance(value, str) and len(value) <= LONGEST and _RATE.match(value.strip()):
        count, _, period = value.strip().replace(" ", "").partition("/")
        rate = Rate(as_float(Decimal(count)), parse_duration(f"1{period}" if period in SECONDS else period))
        if 0 < rate.count < math.inf and 0 < rate.period < math.inf and 0 < rate.per_second < math.inf:
            return rate
    raise ValueError(f"{describe(value)} is not a rate; write 100/s, 600000/m or a list of them")


def parse_sample(value: object) -> Rate | Literal["all"]:
    """Return `all`, or the rate in a text such as `10/s`. Raises ValueError."""
    if value == "all":
        return "all"
    try:
        return parse_rate(value)
    except ValueError as error:
        raise ValueError(f"{describe(value)} is not a rate; write 10/s, or all") from error


def parse_size(value: object) -> int:
    """Return bytes, from a number or a text such as `256KiB` or `1MB`. Raises ValueError.

    KiB, MiB and GiB are powers of 1024; KB, MB and GB are powers of 1000.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.match(value.strip()) if isinstance(value, str) and len(value) <= LONGEST else None
    size = Decimal(found[1]) * _BYTES[(found[2] or "").lower()] if found else Decimal("0.5")
    if size != size.to_integral_value():
        raise ValueError(f"{describe(value)} is not a size; write bytes or a text such as 256KiB or 1MB")
    return int(size)


def format_size(size: int) -> str:
    """Return the shortest text that `parse_size` reads as the same number of bytes."""
    for unit in ("GiB", "MiB", "KiB"):
        bytes_each = _BYTES[unit[:2].lower()]
        if size and size % bytes_each == 0:
            return f"{size // bytes_each}{unit}"
    return str(size)


def _as_rates(value: object) -> object:
    if value is None:
        return []
    return value if isinstance(value, list | tuple) else [value]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Secret(SecretStr):
    """A text that is never shown: not by repr, not by str, not in a dump, not in an error.

    Declare `secret: Secret` (or `Secret | None`, or `list[Secret]`): the file then also accepts
    `secret_file`, the path of a file that holds it. It is never empty.
    """

    _inner_schema: ClassVar[CoreSchema] = core_schema.str_schema(min_length=1)

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __str__(self) -> str:
        return "**********"


_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""The JSON Schema keywords for pydantic's limits, which pydantic does not translate after a validator."""


class _OrText:
    """JSON Schema of a number ≥ 0 that may also be a text, such as a duration."""

    def __init__(self, pattern: str, examples: list[str]) -> None:
        self._text = {"type": "string", "pattern": pattern}
        self._examples = examples

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        number = {_LIMITS.get(key, key): value for key, value in handler(schema).items()}
        if "exclusiveMinimum" not in number:
            number.setdefault("minimum", 0)
        return {"anyOf": [number, dict(self._text)], "examples": list(self._examples)}


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    _OrText(DURATION_PATTERN, ["10s", "500ms", "1h30m"]),
]
"""Seconds as a float: finite, at least 0."""

Rates = Annotated[
    tuple[Rate, ...],
    BeforeValidator(_as_rates),
    WithJsonSchema(
        {
            "anyOf": [_RATE_SCHEMA, {"type": "array", "items": _RATE_SCHEMA}, {"type": "null"}],
            "examples": ["100/s", ["20/s", "600000/m"]],
        }
    ),
]
"""One rate or a list of rates, all of which apply. An empty list is unlimited."""

Sample = Annotated[
    Rate | Literal["all"],
    PlainValidator(parse_sample),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [_RATE_SCHEMA, {"const": "all"}], "examples": ["10/s", "all"]}),
]
"""The share of events that is kept: a number per unit of time, or all."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    _OrText(SIZE_PATTERN, ["256KiB", "1MB"]),
]
"""Bytes."""

Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}},
            ],
            "examples": ["feed:*", ["news", "feed:*"]],
        }
    ),
]
"""One glob pattern of names or a list of them (see `relay.names.matches`). An empty list matches nothing."""

Count = Annotated[int, Strict(), Field(ge=1)]
"""A whole number ≥ 1. Strict: `true` and "20" are refused."""

Switch = Annotated[bool, Strict()]
"""`true` or `false`. Strict: other words are refused."""
