"""The schema of a router's routes: what a request may ask for beside the models themselves.

Knows names, parameters and which of them go together. Knows nothing of what a route computes
(`routing`), nor whether the names it is given exist: `routing.plan.resolve` checks that.

A *member* below is a model (`armorm`), another route, or one attribute of a model
(`armorm.helpsteer-correctness`).
"""

from typing import Annotated, Final, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from rewardserve.settings import Settings

Normalize = Literal["none", "affine", "zscore", "quantile", "sigmoid", "group_zscore", "group_rank"]
"""How members' scores are brought to one scale; formulas in `routing.normalizers`."""

Aggregate = Literal[
    "mean",
    "median",
    "trimmed_mean",
    "min",
    "lower_confidence_bound",
    "uncertainty_weighted",
    "soft_min",
    "log_sigmoid_sum",
    "reciprocal_rank",
    "majority_vote",
]
"""How members' scores become one; formulas and sources in `routing.aggregators`."""

CALIBRATED: Final = frozenset({"zscore", "quantile"})
"""Normalizers that read a calibration of each member."""
GROUPED: Final = frozenset({"group_zscore", "group_rank"})
"""Normalizers that compare the responses of one prompt."""
SCALE_FREE: Final = frozenset({"reciprocal_rank", "majority_vote"})
"""Aggregates that read only the order of a member's scores, and so need no normalizer."""
UNWEIGHTED: Final = frozenset({"median", "trimmed_mean", "min"})
"""Aggregates in which a weight has no meaning."""
COMPLETE: Final = frozenset({"min", "log_sigmoid_sum"})
"""Aggregates that claim something of every member, and so mean nothing with one missing."""
DISPERSED: Final = frozenset({"lower_confidence_bound", "uncertainty_weighted"})
"""Aggregates that need a spread, and so at least two members."""

PARAMETER_OF: Final[dict[str, frozenset[str]]] = {
    "affine": frozenset({"affine"}),
    "alone": GROUPED,
    "trim": frozenset({"trimmed_mean"}),
    "k": frozenset({"lower_confidence_bound"}),
    "penalty": frozenset({"uncertainty_weighted"}),
    "ddof": DISPERSED,
    "temperature": frozenset({"soft_min"}),
    "references": frozenset({"log_sigmoid_sum"}),
    "rank_constant": frozenset({"reciprocal_rank"}),
}
"""Parameter of an ensemble -> the normalizers or aggregates that read it."""


class Affine(Settings):
    """score -> scale * score + offset."""

    scale: FiniteFloat
    offset: FiniteFloat = 0.0


class EnsembleSettings(Settings):
    """Several members' scores, brought to one scale and combined into one."""

    members: Annotated[dict[str, FiniteFloat], Field(min_length=1, max_length=32)]
    """Member -> weight, above 0; the weights need not sum to 1."""
    normalize: Normalize | None = None
    """Must be written out unless `aggregate` reads ranks alone; `none` combines raw scores."""
    aggregate: Aggregate = "mean"
    quorum: Annotated[int, Field(ge=1)] | None = None
    """Members that suffice when others fail; left out, every member must answer."""

    affine: dict[str, Affine] | None = None
    """Member -> its own scale and offset."""
    alone: Literal["error", "calibrated"] = "error"
    """A response without others to compare with: refused, or measured against the calibration."""
    trim: Annotated[int, Field(ge=1)] = 1
    """Scores dropped at each end."""
    k: Annotated[FiniteFloat, Field(ge=0)] = 1.0
    """Standard deviations taken off the mean."""
    penalty: Annotated[FiniteFloat, Field(ge=0)] = 0.5
    """The factor of the variance taken off the mean."""
    ddof: Literal[0, 1] = 0
    """0 divides squared deviations by the number of members, 1 by one less."""
    temperature: PositiveFloat = 1.0
    """Towards 0 the soft minimum is the minimum, towards infinity the mean."""
    references: dict[str, FiniteFloat] | None = None
    """Member -> the normalized score that counts as neither good nor bad; 0 when left out."""
    rank_constant: Annotated[FiniteFloat, Field(ge=0)] = 60.0
    """Added to each rank before inverting; larger values flatten the top."""

    @property
    def names(self) -> list[str]:
        return list(self.members)

    @property
    def calibrated(self) -> bool:
        """Whether the normalizer reads a calibration of each member."""
        return self.normalize in CALIBRATED or self.alone == "calibrated"

    @model_validator(mode="after")
    def _consistent(self) -> "EnsembleSettings":
        _check_parameters(self)
        _check_members(self)
        _check_scale(self)
        _check_quorum(self)
        return self


class AttributesSettings(Settings):
    """One model's attributes weighed by the caller instead of by the model's own gate."""

    model: str
    weights: Annotated[dict[str, FiniteFloat], Field(min_length=1)]
    """Attribute -> weight, of any sign: score = sum of weight * attribute."""

    @property
    def names(self) -> list[str]:
        return [self.model]


class CascadeSettings(Settings):
    """A cheap member scores every response; a strong one only those that are worth it."""

    first: str
    then: str
    top_k: Annotated[int, Field(ge=2)] | None = None
    """At most so many of the best responses go on."""
    margin: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Responses go on that lie within so much of the best; nobody, when the best stands alone."""

    @property
    def names(self) -> list[str]:
        return [self.first, self.then]

    @model_validator(mode="after")
    def _bounded(self) -> "CascadeSettings":
        if self.top_k is None and self.margin is None:
            raise ValueError("a cascade needs top_k, margin or both, to say what goes on")
        if self.first == self.then:
            raise ValueError("both stages of this cascade are the same")
        return self


class SelectRule(Settings):
    """Applies when the request carries every tag of `when` with one of its values."""

    when: Annotated[dict[str, str | list[str]], Field(min_length=1)]
    use: str


class SelectSettings(Settings):
    """A member chosen by the request's tags; the first rule that applies wins."""

    rules: Annotated[list[SelectRule], Field(min_length=1)]
    default: str

    @property
    def names(self) -> list[str]:
        return [*(rule.use for rule in self.rules), self.default]


class SplitSettings(Settings):
    """Each prompt always goes to the same member; members share the prompts by weight."""

    weights: Annotated[dict[str, PositiveFloat], Field(min_length=2)]

    @property
    def names(self) -> list[str]:
        return list(self.weights)


class ShadowSettings(Settings):
    """`answer` answers; the shadows score the same conversations, for the record alone."""

    answer: str
    shadows: Annotated[list[str], Field(min_length=1)]

    @property
    def names(self) -> list[str]:
        return [self.answer, *self.shadows]


RouteKind = (
    str
    | EnsembleSettings
    | AttributesSettings
    | CascadeSettings
    | SelectSettings
    | SplitSettings
    | ShadowSettings
)


class RouteSettings(Settings):
    """One route: exactly one of these keys."""

    single: str | None = None
    ensemble: EnsembleSettings | None = None
    attributes: AttributesSettings | None = None
    cascade: CascadeSettings | None = None
    select: SelectSettings | None = None
    split: SplitSettings | None = None
    shadow: ShadowSettings | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "RouteSettings":
        if len(self._given()) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"a route has exactly one of the keys {kinds}")
        return self

    @property
    def names(self) -> list[str]:
        """The members this route names."""
        return [self.chosen] if isinstance(self.chosen, str) else self.chosen.names

    @property
    def chosen(self) -> RouteKind:
        """What stands under the route's one key; a name for `single`."""
        return self._given()[0]

    def _given(self) -> list[RouteKind]:
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value for value in values if value is not None]


def _check_parameters(ensemble: EnsembleSettings) -> None:
    chosen = {ensemble.normalize, ensemble.aggregate}
    for name in ensemble.model_fields_set & PARAMETER_OF.keys():
        if not PARAMETER_OF[name] & chosen:
            readers = " or ".join(sorted(PARAMETER_OF[name]))
            raise ValueError(f"{name} is read by {readers}, which this ensemble does not use")


def _check_members(ensemble: EnsembleSettings) -> None:
    if any(weight <= 0 for weight in ensemble.members.values()):
        raise ValueError("a member's weight must be above 0; leave the member out instead")
    if ensemble.aggregate in UNWEIGHTED and len(set(ensemble.members.values())) > 1:
        raise ValueError(f"{ensemble.aggregate} has no use for weights; give each member the same")
    strangers = {*(ensemble.affine or {}), *(ensemble.references or {})} - ensemble.members.keys()
    if strangers:
        raise ValueError(f"{sorted(strangers)} are not members of this ensemble")
    if ensemble.normalize == "affine" and (ensemble.affine or {}).keys() != ensemble.members.keys():
        raise ValueError("normalize: affine needs a scale for every member, under affine")


def _check_scale(ensemble: EnsembleSettings) -> None:
    if ensemble.normalize is None and ensemble.aggregate not in SCALE_FREE:
        raise ValueError(
            "members have different scales, and combining raw scores means nothing: set normalize "
            "to zscore or quantile (calibrated), group_zscore or group_rank (within one prompt's "
            "responses), affine or sigmoid; or write normalize: none to combine raw scores"
        )


def _check_quorum(ensemble: EnsembleSettings) -> None:
    count = len(ensemble.members)
    fewest = ensemble.quorum or count
    if fewest > count:
        raise ValueError(f"quorum is {fewest}, above the {count} members")
    if fewest < count and ensemble.aggregate in COMPLETE:
        raise ValueError(
            f"{ensemble.aggregate} speaks of every member: it takes no quorum below {count}"
        )
    if ensemble.aggregate in DISPERSED and fewest < 2:
        raise ValueError(f"{ensemble.aggregate} needs a spread: at least 2 members must answer")
    if ensemble.aggregate == "trimmed_mean" and fewest <= 2 * ensemble.trim:
        raise ValueError(f"trimming {ensemble.trim} at each end leaves nothing of {fewest} members")
