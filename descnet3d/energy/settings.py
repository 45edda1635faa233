"""How an energy is descended, and what it learns by, as plain data: nothing here loads Keras.

The defaults are the paper's where it gives them; what training takes instead, a recipe says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from descnet3d.arguments import require_positive_integer
from descnet3d.fields import Flag, Settings

STARTS = ("persistent", "noise", "data", "generator")


def _require_number(settings: Any, name: str, positive: bool = False) -> None:
    value = getattr(settings, name)
    if not (math.isfinite(value) and (value > 0 if positive else value >= 0)):
        least = "positive" if positive else "0 or more"
        raise ValueError(f"{name} must be {least}, but it is {value!r}.")


def _require_share(settings: Any, name: str) -> None:
    if not 0 <= getattr(settings, name) <= 1:
        raise ValueError(f"{name} must be in [0, 1], but it is {getattr(settings, name)!r}.")


@dataclass(frozen=True)
class LangevinSettings(Settings):
    """How Langevin dynamics runs (eq. 3).

    Steps are shared out to rounds. Each round but the first starts from where the last one ended,
    contracted, as the reference's own drift would move it: details fade before the whole does, and
    are decided anew under the same whole.
    """

    num_steps: Annotated[int, "the number of steps, l in the paper"] = 20
    step_size: Annotated[float, "√Δτ; occupied and empty voxels are 1 apart"] = 0.1
    temperature: Annotated[
        float, "the noise's variance relative to eq. 3; 1 samples exp(-E), 0 descends E"
    ] = 1.0
    initial_std: Annotated[float, "standard deviation of the noise that chains start from"] = 0.5
    rounds: Annotated[int, "how many rounds the steps are shared out to"] = 1
    contraction: Annotated[float, "what shapes are multiplied by before the dynamics go on"] = 0.3

    def __post_init__(self) -> None:
        """Refuse settings that no dynamics can run with."""
        require_positive_integer("num_steps", self.num_steps)
        require_positive_integer("rounds", self.rounds)
        for name in ("step_size", "temperature", "initial_std"):
            _require_number(self, name, positive=name == "step_size")
        if not 0 < self.contraction <= 1:
            raise ValueError(f"contraction must be in (0, 1], but it is {self.contraction!r}.")

    def steps_of_rounds(self) -> list[int]:
        """How many steps each round has: as equal as can be, the longer ones first, none empty."""
        rounds = min(self.rounds, self.num_steps)
        shared, more = divmod(self.num_steps, rounds)
        return [shared + (index < more) for index in range(rounds)]


@dataclass(frozen=True)
class ChainSettings(Settings):
    """Which chains a training iteration runs.

    Persistent chains begin from noise and go on from where they were (the paper's), taken in turn;
    all others are short runs, from fresh noise, from the observed shapes ("data"), or from what the
    generator of a `CooperativeNet` makes.
    """

    start: Annotated[str, "where chains start: persistent, noise or data", Flag("chains")] = (
        "persistent"
    )
    per_step: Annotated[int, "chains an iteration; from data, one for each observed shape"] = 25
    count: Annotated[
        int | None, "persistent chains in all; none: per_step, in a recipe for each batch"
    ] = None
    restart_rate: Annotated[
        float,
        "the probability that a chain restarts from noise at its turn",
        Flag("chains_restart"),
    ] = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that contradict themselves."""
        if self.start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, but it is {self.start!r}.")
        require_positive_integer("per_step", self.per_step)
        if self.start == "persistent" and self.count is not None and self.count < self.per_step:
            raise ValueError(
                f"count must be at least per_step ({self.per_step}), but it is {self.count!r}."
            )
        _require_share(self, "restart_rate")


@dataclass(frozen=True)
class MaximumLikelihood(Settings):
    """Maximum likelihood by Langevin dynamics: mode seeking, then mode shifting (eq. 4)."""

    weight: Annotated[float, "what the ascent on mean f(Y) - mean f(Ỹ) is multiplied by"] = 1.0
    langevin: Annotated[
        LangevinSettings, "Mode seeking of an iteration", Flag("langevin", without=("rounds",))
    ] = LangevinSettings()
    chains: Annotated[ChainSettings, "Mode seeking of an iteration", Flag("chains")] = (
        ChainSettings()
    )
    noise_until_epoch: Annotated[
        int | None, "the first pass without noise; none keeps it", Flag("noise_until_epoch")
    ] = None


@dataclass(frozen=True)
class EquilibriumMatching(Settings):
    """Matches ∂E/∂Y to the direction from data to noise, fading out where the data are.

    With Y_γ = γY + (1 - γ)ε, ε ~ N(0, s²) and γ uniform in [0, 1], the loss is the mean over the
    voxels of ‖s·∂E/∂Y(Y_γ) - c(γ)(ε - Y)/s‖², where c(γ) = scale·min(1, (1 - γ)/(1 - fade_from)).
    Descending E from noise then follows the paths to the data and stops there, so an energy is
    learned with no Langevin dynamics in the loop. Where a task holds something of the shapes, paths
    begin at noise that it holds for too, and only the gradient along what is free is matched.
    `objectives.matching_loss` computes it.
    """

    weight: Annotated[
        float,
        "the weight of the loss beside maximum likelihood",
        Flag("likelihood_matching_weight"),
    ] = 1.0
    scale: Annotated[float, "λ, the gradient's size along the paths"] = 4.0
    fade_from: Annotated[float, "the γ from which that gradient fades to 0"] = 0.8
    least_noise: Annotated[float, "the noise of a path is uniform in [least_noise, 1]·s"] = 1.0

    def __post_init__(self) -> None:
        """Refuse settings without a meaning."""
        _require_number(self, "weight")
        _require_number(self, "scale", positive=True)
        if not 0 <= self.fade_from < 1:
            raise ValueError(f"fade_from must be in [0, 1), but it is {self.fade_from!r}.")
        _require_share(self, "least_noise")


@dataclass(frozen=True)
class AnnealingSettings:
    """The schedule of annealed Langevin dynamics, down geometric noise-to-signal levels.

    Of the share of fresh noise, 0 follows one path from the first noise on, √(1 - r²) where levels
    fall by a factor r is the exact reverse diffusion, and 1 is the most random, and sharper than
    the data. At `settle_level`, where what the shape is has been decided, chains stay for some
    steps, and from there down all noise is fresh: surfaces close, and what is loose goes. From
    `whole_below` down, a drawn new shape of several pieces is changed to one in one piece, nearly
    the likeliest (`shapes.pieces.in_one_piece`); down to `settle_level`, where chains may still
    make a leg of a thread, pieces are joined that would rather go.
    Above `random_above` a drawn voxel is occupied or not at random with its own probability, below
    it is the mean of both. Guidance takes the odds to ℓ(c) + guidance·(ℓ(c) - ℓ(nothing told)), and
    the energy likewise: shapes become more typical of their category and less diverse, in twice the
    time.
    """

    num_steps: Annotated[int, "how many levels, beside the steps that settle"] = 20
    first_level: Annotated[float, "the level where chains start"] = 40.0
    last_level: Annotated[float, "the level of the last drawing"] = 0.25
    fresh_noise: Annotated[float, "η, the share of the noise that is drawn anew at a step"] = 0.2
    settle_level: Annotated[float, "the level from which down all noise is drawn anew"] = 2.0
    settle_steps: Annotated[int, "how many steps are taken at that level"] = 16
    whole_below: Annotated[
        float, "the level from which down shapes are held in one piece; 0: never"
    ] = 0.0
    random_above: Annotated[float, "the level above which voxels are drawn at random"] = 40.0
    guidance: Annotated[float, "how far beyond what the category changes the odds are taken"] = 0.3
    guidance_above: Annotated[float, "the level above which they are"] = 3.0
    revision_level: Annotated[float, "the level to which shapes are noised, to be revised"] = 1.0
    reconstruction_steps: Annotated[
        int, "how many levels, where the network is told what is observed of a shape"
    ] = 12
    feature_level: Annotated[float, "the level of features, of shapes without noise"] = 1.0
    draw: Annotated[
        str, "what draws shapes: odds, the network's, or energy, by its gradient, fitted to them"
    ] = "odds"

    def __post_init__(self) -> None:
        """Refuse settings that no dynamics can run with."""
        require_positive_integer("num_steps", self.num_steps)
        require_positive_integer("reconstruction_steps", self.reconstruction_steps)
        if not isinstance(self.settle_steps, int | np.integer) or self.settle_steps < 0:
            raise ValueError(
                f"settle_steps must be an integer of at least 0, but it is {self.settle_steps!r}."
            )
        for name in ("first_level", "last_level", "revision_level", "feature_level"):
            _require_number(self, name, positive=True)
        if self.last_level > self.first_level:
            raise ValueError(
                f"last_level must be at most first_level ({self.first_level:g}), but it is "
                f"{self.last_level:g}."
            )
        for name in ("settle_level", "whole_below", "random_above", "guidance", "guidance_above"):
            if not getattr(self, name) >= 0:  # a level may be infinite
                raise ValueError(f"{name} must be 0 or more, but it is {getattr(self, name)!r}.")
        _require_share(self, "fresh_noise")
        if self.draw not in ("energy", "odds"):
            raise ValueError(f'draw must be "energy" or "odds", but it is {self.draw!r}.')

    def settles_at(self, level: float) -> bool:
        """Whether all noise is drawn anew at a level, one of `levels()`."""
        return bool(np.float32(level) <= np.float32(self.settle_level))

    def whole_at(self, level: float) -> bool:
        """Whether shapes are held in one piece at a level, one of `levels()`."""
        return bool(np.float32(level) <= np.float32(self.whole_below))

    def fresh_noise_at(self, level: float) -> float:
        """η at a level."""
        return 1.0 if self.settles_at(level) else self.fresh_noise

    def guidance_at(self, level: float) -> float:
        """The guidance of a step at a level."""
        return self.guidance if level > self.guidance_above else 0.0

    def levels(self) -> np.ndarray:
        """The noise level of every step, float32 `[n]`, falling."""
        if self.num_steps == 1:
            return np.array([self.last_level], np.float32)
        falling = np.geomspace(self.first_level, self.last_level, self.num_steps)
        if self.last_level < self.settle_level <= self.first_level:
            above = int((falling > self.settle_level).sum())
            falling = np.insert(falling, above, [self.settle_level] * self.settle_steps)
        return falling.astype(np.float32)

    def reconstructing(self, sampled: bool) -> AnnealingSettings:
        """The schedule of shapes whose observation the network is told.

        All noise is fresh, so that chains end near a mode of what is left open; where they shall be
        `sampled`, so much of it as the exact reverse diffusion draws, until they settle.
        """
        steps = self.reconstruction_steps
        short = replace(self.with_steps(steps), random_above=math.inf, guidance=0.0)
        if not sampled:
            return replace(short, fresh_noise=1.0, settle_steps=0)
        ratio = (self.last_level / self.first_level) ** (1 / max(steps - 1, 1))
        return replace(short, fresh_noise=math.sqrt(1.0 - ratio**2))

    def with_steps(self, num_steps: int) -> AnnealingSettings:
        """The same with so many levels, and as large a share of steps that settle."""
        settle_steps = round(self.settle_steps * num_steps / self.num_steps)
        return replace(self, num_steps=num_steps, settle_steps=settle_steps)


# The precisions of products that losses may become native code with (`energy.native`).
PRODUCTS = ("float32", "bfloat16")


def require_products(name: str, products: str) -> None:
    """Raise a ValueError where an argument is neither "no" nor one of `PRODUCTS`."""
    known = ("no", *PRODUCTS)
    if products not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, but it is {products!r}.")


@dataclass(frozen=True)
class Denoising(Settings):
    """What an energy at every noise level learns by: shapes, drawn from noisy ones.

    Observed shapes are noised to levels whose logarithm is normal. First the voxels' odds are
    learned, by cross-entropy against the clean voxels. Then the energy is fitted to them by its
    gradient: the loss is the mean square of X̂ = (Y - s²·∂E/∂Y)/g, less what the odds of a frozen
    copy draw, in units of an occupied voxel; that target has no sampling noise. Of some shapes the
    category is not told, so that shapes of none are known too; of those that are warped the network
    is told how (`shapes.warps`), so that what it makes is not.

    Attributes:
        learns: "odds" or "energy".
    """

    learns: str = "odds"
    level_median: Annotated[float, "the median of the noise-to-signal levels"] = 3.0
    level_spread: Annotated[float, "the standard deviation of their logarithm"] = 1.3
    fine_weight: Annotated[
        float, "a shape's loss is multiplied by (4/level) to this power, within [0.3, 8]"
    ] = 0.5
    untold: Annotated[float, "the share of shapes whose category is not told"] = 0.1
    warped: Annotated[float, "the share of shapes slightly scaled, and shifted up or down"] = 0.5
    observed: Annotated[
        float, "the share of shapes of which voxels or averages of blocks are told"
    ] = 0.0

    def __post_init__(self) -> None:
        """Refuse settings without a meaning."""
        if self.learns not in ("odds", "energy"):
            raise ValueError(f'learns must be "odds" or "energy", but it is {self.learns!r}.')
        for name in ("level_median", "level_spread"):
            _require_number(self, name, positive=True)
        _require_number(self, "fine_weight")
        for name in ("untold", "warped", "observed"):
            _require_share(self, name)
