"""What other people's logs and events call their fields and behaviours, by name or from a TOML file."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec

from models.errors import SettingsError
from models.events import Behaviour
from models.log.sources import Given, KeyPath, Source, name_of, source_of

#: What a behaviour may be called in a format; None: rows with it are left out.
BEHAVIOUR_NAMES: Mapping[str, Behaviour | None] = {b.name.lower(): b for b in Behaviour} | {"skip": None}

#: What behaviours are called where a file does not say it.
NUMBERS_AND_NAMES: Mapping[str, Behaviour | None] = {str(int(b)): b for b in Behaviour} | {
    b.name.lower(): b for b in Behaviour
}

#: How the values of events may be encoded.
Encoding = Literal["json", "avro", "protobuf", "json-schema"]

F = TypeVar("F", bound=Callable[..., Any])


#: Fields of a format that are sources; the last is of events alone.
SOURCES = ("user", "item", "behaviour", "geohash", "category", "event_id")


@dataclass(frozen=True, slots=True)
class LogFormat:
    """Where a log's rows, or a topic's events, have what is needed of them; Tianchi's names by default.

    See sources.py for what each may be beside the name of a column.
    """

    user: Given = "user_id"
    item: Given = "item_id"
    #: These three may be missing, and are "" then: every row is a view, nothing has a category or a place.
    behaviour: Given = "behavior_type"
    geohash: Given = "user_geohash"
    category: Given = "item_category"
    #: One column, or one path.
    time: str = "time"
    #: Of events alone: what tells a redelivery from a second, equal click. Rows of a log are told apart by
    #: what stands in them (event_ids.py).
    event_id: Given = "event_id"
    #: "text", such as 2014-11-18 09 or 2014-11-18T09:30:00.5+01:00, in UTC where it says nothing else; or the
    #: unit of an epoch time. "auto": whichever it plainly is. A Parquet file's timestamps need no unit.
    time_unit: Literal["auto", "text", "seconds", "milliseconds", "microseconds", "nanoseconds"] = "auto"
    #: Of events alone: how their values are encoded. All but plain JSON is by the schemas of a registry.
    encoding: Encoding = "json"
    #: Of JSON alone: the path of a list whose elements are events of their own; "": an object is one event.
    each: str = ""
    #: What parts the columns of a CSV file.
    delimiter: str = ","
    #: The names of all columns where the file's first line is a row already; empty: it names them.
    header: tuple[str, ...] = ()
    #: Whether ids written as 266079.0 mean 266079.
    whole_ids: bool = False
    #: What each text in the behaviour column means; rows with None are left out.
    behaviours: Mapping[str, Behaviour | None] = field(
        default_factory=lambda: {str(int(b)): b for b in Behaviour}
    )

    #: Rows that make no sense are left out, if they are not more than this share of all.
    bad_share: float = 0.001

    def __post_init__(self) -> None:
        if not 0 <= self.bad_share < 1:
            raise SettingsError(f"the format's bad_share is {self.bad_share}; it must be from 0 to under 1")
        for name in ("user", "item", "time"):
            if not getattr(self, name):
                raise SettingsError(f"the format's {name} is empty: name the column that holds it")
        sources = {name: self._checked_source(name) for name in (*SOURCES, "time")}
        if not sources["time"].is_path:
            raise SettingsError(f"the format's time is {self.time!r}; it must be one column or path")
        if any(self.time_path in sources[name].paths for name in SOURCES):
            raise SettingsError(
                f"the format's time is {self.time}, as is another column: name that of the time"
            )
        self._check_constants(sources["behaviour"])
        self._check_each()
        if len(self.delimiter.encode()) != 1 or self.delimiter in '"\r\n':
            raise SettingsError(
                f"the format's delimiter is {self.delimiter!r}; it must be one character like ','"
            )
        missing = [name for name in self.columns if self.header and name not in self.header]
        if missing:
            raise SettingsError(f"the format's header lacks {missing[0]}; it names {', '.join(self.header)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that a log must have."""
        return tuple(dict.fromkeys(map(name_of, self.paths)))

    @property
    def paths(self) -> tuple[KeyPath, ...]:
        """Return the paths at which a log must have something."""
        paths = (path for name in SOURCES[:-1] for path in self.source(name).paths)
        return tuple(dict.fromkeys((*paths, self.time_path)))

    @property
    def time_path(self) -> KeyPath:
        """Return the path to the time."""
        return source_of(self.time).paths[0]

    @property
    def each_path(self) -> KeyPath:
        """Return the path to a list of events; empty where there is none."""
        return source_of(self.each).paths[0] if self.each else ()

    @property
    def time_column(self) -> str:
        """Return the name of the column of times."""
        return name_of(self.time_path)

    def source(self, name: str) -> Source:
        """Return where the values of one of `SOURCES` come from."""
        return source_of(getattr(self, name))

    def _checked_source(self, name: str) -> Source:
        try:
            return self.source(name)
        except SettingsError as error:
            raise SettingsError(f"the format's {name}: {error}") from error

    def _check_each(self) -> None:
        if not self.each:
            return
        if not self._checked_source("each").is_path:
            raise SettingsError(
                f"the format's each is {self.each!r}; it must be one path, like payload.items"
            )
        if self.encoding != "json":
            raise SettingsError(f"the format has each, and encoding {self.encoding!r}: each is of JSON alone")

    def _check_constants(self, behaviour: Source) -> None:
        for template in behaviour.templates:
            if not template.paths and template.texts[0] not in self.behaviours:
                raise SettingsError(
                    f"the format's behaviour is {template.texts[0]!r}, which behaviours does not have; "
                    f"it has {', '.join(self.behaviours)}"
                )


#: The form of Tianchi's `tianchi_mobile_recommend_train_user.csv`, and of what `offline.sample` writes.
TIANCHI = LogFormat()

#: Taobao's `UserBehavior.csv`.
TAOBAO = LogFormat(
    geohash="",
    time_unit="seconds",
    header=("user_id", "item_id", "item_category", "behavior_type", "time"),
    behaviours={
        "pv": Behaviour.VIEW,
        "fav": Behaviour.FAVOURITE,
        "cart": Behaviour.CART,
        "buy": Behaviour.BUY,
    },
)

#: JD's `JData_Action_*.csv` of 2016; what was taken out of the cart (3) says nothing, a click (6) is a view.
JDATA = LogFormat(
    item="sku_id",
    behaviour="type",
    geohash="",
    category="cate",
    whole_ids=True,
    behaviours={
        "1": Behaviour.VIEW,
        "2": Behaviour.CART,
        "3": None,
        "4": Behaviour.BUY,
        "5": Behaviour.FAVOURITE,
        "6": Behaviour.VIEW,
    },
)

FORMATS: Mapping[str, LogFormat] = {"tianchi": TIANCHI, "taobao": TAOBAO, "jdata": JDATA}


def log_format_option(command: F) -> F:
    """Give a command the option `--format`, passed on as `log_format`, text for `read_log_format`."""
    return click.option(
        "--format",
        "log_format",
        default="tianchi",
        show_default=True,
        metavar=f"[{'|'.join(FORMATS)}|FILE]",
        help="What the log calls its columns and behaviours: a name, or a TOML file with the keys "
        f"{', '.join(f.name for f in fields(LogFormat))}.",
    )(command)


def read_log_format(text: str, asked_by: str = "--format") -> LogFormat:
    """Return the format of this name or in this TOML file; SettingsError where it is neither.

    The file's keys are LogFormat's fields; behaviours maps each text of the log to view, favourite, cart,
    buy or skip. asked_by: the option or variable that has the text.
    """
    if text in FORMATS:
        return FORMATS[text]
    try:
        values = tomllib.loads(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{asked_by} {text}: no such format ({', '.join(FORMATS)}), and as a file it cannot be read: "
            f"{error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{asked_by} {text} is not TOML: {error}") from error
    return _format_of(text, values)


def _format_of(file: str, values: dict[str, Any]) -> LogFormat:
    known = [field.name for field in fields(LogFormat)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise SettingsError(f"{file}: there is no key {unknown[0]!r}; the keys are {', '.join(known)}")
    behaviours = values.get("behaviours", {})
    for text, name in behaviours.items() if isinstance(behaviours, dict) else ():
        if not isinstance(name, str) or name not in BEHAVIOUR_NAMES:
            raise SettingsError(
                f"{file}: behaviours says {text} = {name!r}; it must be one of {', '.join(BEHAVIOUR_NAMES)}"
            )
    if isinstance(behaviours, dict):
        meant = {text: BEHAVIOUR_NAMES[name] for text, name in behaviours.items()}
        values = values | {"behaviours": meant or NUMBERS_AND_NAMES}
    try:
        return msgspec.convert(values, LogFormat)
    except (msgspec.ValidationError, SettingsError) as error:
        raise SettingsError(f"{file}: {error}") from error
