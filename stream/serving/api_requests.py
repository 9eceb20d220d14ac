"""What the API may be asked, and how much of it at once; anything else is refused, saying where and why."""

from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator, with_config
from typing_extensions import TypedDict

from models.windows.window import MAX_ID_BYTES
from stream.serving.ranker import RECALL, Question, Wish
from stream.serving.read_protocol import Position
from stream.serving.scoring import Candidate

#: The most users of a request, candidates of a user, candidates of a request, and items left out of a user.
MAX_USERS, MAX_CANDIDATES, MAX_SCORED, MAX_EXCLUDED = 500, 5_000, 50_000, 10_000
#: The most items that a user may get, and that are ranked for that.
MAX_K, MAX_RECALL = 1_000, 5_000
#: The longest that a read may wait (s), the largest body (bytes), and the latest time (epoch ms).
MAX_WAIT_S, MAX_BODY_BYTES, MAX_TIME_MS = 10.0, 8_000_000, 1 << 53

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES)]
Category = Annotated[str, Field(max_length=MAX_ID_BYTES)]
Excluded = Annotated[list[Id], Field(max_length=MAX_EXCLUDED, description="Items that are left out.")]
Explain = Annotated[bool, Field(description="Say how much each event of the user counted for each item.")]
Explore = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The share of each list that goes to items of which little is known, on average.",
    ),
]
Seed = Annotated[
    int | None,
    Field(ge=0, lt=1 << 53, description="With the same one, what explores is the same; left out: by chance."),
]
Now = Annotated[int | None, Field(ge=0, le=MAX_TIME_MS, description="When it is (epoch ms); left out: now.")]
WaitS = Annotated[
    float,
    Field(ge=0, le=MAX_WAIT_S, allow_inf_nan=False, description="How long to wait for `at_least` (s)."),
]


class _Strict(BaseModel):
    """A misspelt field is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


@with_config(extra="forbid")
class CandidateItem(TypedDict):  # making a model of each of hundreds costs more than ranking them
    """An item to be scored; the category counts for one that the model does not know."""

    item_id: Id
    category: NotRequired[Category]


def _tag(value: Any) -> str:
    return ITEM_TAGS[isinstance(value, str)]


#: What pydantic calls an item said as an object, and as its id alone, among the places of an error.
ITEM_TAGS = ("(object)", "(id)")
Item = Annotated[
    Annotated[CandidateItem, Tag(ITEM_TAGS[0])] | Annotated[Id, Tag(ITEM_TAGS[1])], Discriminator(_tag)
]


class Filter(_Strict):
    """Which items are wanted alone."""

    category: Id


class SourcePosition(_Strict):
    """Where an event stands in the source topic."""

    epoch: Annotated[int, Field(ge=0, description="The topic's epoch; see docs/redis.md.")]
    offset: Annotated[int, Field(ge=0)]


class RankUser(_Strict):
    """Whom to rank which candidates for."""

    user_id: Id
    candidates: Annotated[list[Item], Field(max_length=MAX_CANDIDATES)]
    exclude: Excluded = []
    filter: Filter | None = None
    at_least: Annotated[
        SourcePosition | None, Field(description="What the user's vector must know; else `reason` is behind.")
    ] = None

    def question(self) -> Question:
        """Return it as the ranker takes it."""
        candidates = [
            each if isinstance(each, str) else Candidate(each["item_id"], each.get("category", ""))
            for each in self.candidates
        ]
        category = self.filter.category if self.filter else None
        return Question(self.user_id, candidates, frozenset(self.exclude), category)

    def position(self) -> Position | None:
        """Return what the vectors must know, None where anything will do."""
        return (self.at_least.epoch, self.at_least.offset) if self.at_least else None


class RankRequest(_Strict):
    """Candidates to be ranked, each user's own."""

    users: Annotated[list[RankUser], Field(min_length=1, max_length=MAX_USERS)]
    explain: Explain = False
    now_ms: Now = None
    wait_s: WaitS = 0.0

    @model_validator(mode="after")
    def _check_scored(self) -> "RankRequest":
        scored = sum(len(user.candidates) for user in self.users)
        if scored > MAX_SCORED:
            raise ValueError(f"{scored} candidates of all users together; at most {MAX_SCORED} are taken")
        return self

    def positions(self) -> list[Position | None] | None:
        """Return what the vectors of each entry must know, None where no entry says so."""
        wanted = [each.position() for each in self.users]
        return wanted if any(wanted) else None


class RecommendUser(_Strict):
    """Whom to find the best items for."""

    user_id: Id
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many items.")] = 10
    recall: Annotated[
        int, Field(ge=1, le=MAX_RECALL, description="Among how many, found by dot product, a ranker chooses.")
    ] = RECALL
    exclude: Excluded = []
    filter: Filter | None = None

    def wish(self, explore: float, seed: int | None) -> Wish:
        """Return it as the ranker takes it."""
        category = self.filter.category if self.filter else None
        return Wish(self.user_id, self.k, self.recall, frozenset(self.exclude), category, explore, seed)


class RecommendRequest(_Strict):
    """The best items of all, for each user."""

    users: Annotated[list[RecommendUser], Field(min_length=1, max_length=MAX_USERS)]
    at_category: Annotated[
        Category, Field(description="What the page is about: who has no vectors gets those of it.")
    ] = ""
    explore: Explore = 0.0
    seed: Seed = None
    explain: Explain = False
    now_ms: Now = None

    @model_validator(mode="after")
    def _check_ranked(self) -> "RecommendRequest":
        ranked = sum(max(user.k, user.recall) for user in self.users)
        if ranked > 2 * MAX_SCORED:
            raise ValueError(f"recall of all users together is {ranked}; it must be at most {2 * MAX_SCORED}")
        return self
