"""How an energy learns from shapes: mode seeking by Langevin dynamics, then mode shifting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from descnet3d.energy import backend
from descnet3d.energy.chains import PersistentChains
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.langevin import langevin_dynamics
from descnet3d.energy.objectives import matching_loss
from descnet3d.energy.settings import EquilibriumMatching, LangevinSettings, MaximumLikelihood
from descnet3d.energy.tasks import Condition
from descnet3d.fields import changed, settings_of
from descnet3d.models.fitting import Maximum

if TYPE_CHECKING:
    from descnet3d.models.descriptor import DescriptorNet


def default_objectives(
    preset: Mapping[str, Any],
) -> tuple[MaximumLikelihood | None, EquilibriumMatching | None]:
    """What a model goes on learning by: its preset's matching, or else maximum likelihood."""
    recipe = preset.get("recipe") or {}
    matched = recipe.get("matching_steps", 1) or recipe.get("likelihood_matching_weight", 0)
    if not (preset and matched):
        return MaximumLikelihood(), None
    told = {
        name: recipe[f"matching_{name}"]
        for name in settings_of(EquilibriumMatching)
        if f"matching_{name}" in recipe
    }
    return None, changed(EquilibriumMatching(), told)


class EnergyLearning:
    """The parts of a training iteration, for the objectives that a model was compiled with.

    Args:
        model: whose energy learns.
        likelihood: maximum likelihood by Langevin dynamics, if any.
        matching: the matching of the energy's gradient, if any.
        task: recovery or super-resolution; None for synthesis.

    Attributes:
        chains: those that persist between iterations, if any.

    Raises:
        ValueError: when chains start where those of such a model can't.
    """

    def __init__(
        self,
        model: DescriptorNet,
        likelihood: MaximumLikelihood | None,
        matching: EquilibriumMatching | None,
        task: Condition | None,
    ) -> None:
        if likelihood is not None and likelihood.chains.start not in model.chain_starts:
            raise ValueError(
                f"likelihood.chains of a {type(model).__name__} must start at one of "
                f"{', '.join(model.chain_starts)}, but they start at {likelihood.chains.start!r}; "
                "a CooperativeNet's start at its generator."
            )
        self.model, self.likelihood, self.matching, self.task = model, likelihood, matching, task
        self.chains: PersistentChains | None = None
        if likelihood is not None and likelihood.chains.start == "persistent" and task is None:
            initial_std = likelihood.langevin.initial_std
            self.chains = PersistentChains(likelihood.chains, model.grid, model.seed, initial_std)

    def trackers(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A metric for each figure of training, and for each of held-out shapes."""
        held_out = ["energy", *(["matching_loss"] if self.matching else [])]
        names = held_out[1:]
        if self.likelihood is not None:
            names += ["value", "score_observed", "score_synthesized", "gradient_norm"]
            names += ["reconstruction_error", "chain_range"]
        kinds = {"chain_range": Maximum}
        return (
            {name: kinds.get(name, keras.metrics.Mean)(name=name) for name in names},
            {name: keras.metrics.Mean(name=name) for name in held_out},
        )

    def temperature(self, epoch: int) -> float:
        """The temperature of an epoch's Langevin noise."""
        if self.likelihood is None:
            return 0.0
        limit = self.likelihood.noise_until_epoch
        return self.likelihood.langevin.temperature if limit is None or epoch < limit else 0.0

    def observed(self, data: Any) -> tuple[Any, Constraint | None]:
        """The shapes of a batch, in model space, and what the task holds of them."""
        occupancy, visible = self.model.unpacked(data)[0], None
        if isinstance(occupancy, dict):
            occupancy, visible = occupancy["occupancy"], occupancy.get("visible")
        observed = self.model.observed_of(occupancy)
        constraint = self.task.constraint(observed, visible) if self.task is not None else None
        return observed, constraint

    def run_chains(
        self, observed: Any, constraint: Constraint | None
    ) -> tuple[Any, dict[str, Any]]:
        """Mode seeking from where this iteration's chains start."""
        assert self.likelihood is not None
        settings, chains, noise = (
            self.likelihood.langevin,
            self.likelihood.chains,
            self.model.training_noise,
        )
        if self.chains is not None:
            indices, initial = self.chains.take(noise)
            synthesized, measured = self.seek_modes(settings, initial, observed, constraint)
            self.chains.put(indices, synthesized)
            return synthesized, measured
        if constraint is not None:
            drawn: Any = keras.random.normal(ops.shape(observed), seed=noise)
            initial = constraint.project(settings.initial_std * drawn)
        elif chains.start == "noise":
            drawn = keras.random.normal((chains.per_step, *self.model.grid, 1), seed=noise)
            initial = settings.initial_std * drawn
        else:
            initial = observed
        return self.seek_modes(settings, initial, observed, constraint)

    def seek_modes(
        self,
        settings: LangevinSettings,
        initial: Any,
        observed: Any,
        constraint: Constraint | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """What l Langevin steps make of positions, and what is measured on the way."""
        synthesized, diagnostics = langevin_dynamics(
            self.model.energy_of,
            initial,
            num_steps=settings.num_steps,
            step_size=settings.step_size,
            temperature=self.model.noise_level * 1.0 if settings.temperature else 0,
            seed_generator=self.model.training_noise,
            projection=constraint.project if constraint is not None else None,
        )
        difference = ops.mean(synthesized, axis=0) - ops.mean(observed, axis=0)
        return synthesized, {
            "gradient_norm": ops.mean(diagnostics.gradient_norm),
            "reconstruction_error": ops.mean(ops.square(difference)),
            "chain_range": ops.max(ops.abs(synthesized)),
        }

    def held_out(self, observed: Any, constraint: Constraint | None) -> dict[str, Any]:
        """The energies of held-out shapes and, in pretraining, their matching loss."""
        model = self.model
        measured = {"energy": model.energy_of(observed)}
        if self.matching is not None:
            measured["matching_loss"] = self._match(observed, constraint, model.sampling_noise)
        return measured

    def _match(self, observed: Any, constraint: Constraint | None, noise: Any) -> Any:
        """The matching loss of shapes."""
        assert self.matching is not None
        energy, std = self.model.energy_of, self.model.reference_std
        return matching_loss(self.matching, energy, observed, std, noise, constraint)

    def shift_modes(
        self, observed: Any, synthesized: Any | None, constraint: Constraint | None = None
    ) -> dict[str, Any]:
        """The ascent on mean f(Y) - mean f(Ỹ) (eq. 4), the matching loss, or both; one step."""
        model, likelihood, matching = self.model, self.likelihood, self.matching

        def objective() -> tuple[Any, dict[str, Any]]:
            loss, parts = ops.convert_to_tensor(0.0), {}
            if likelihood is not None:
                observed_score = ops.mean(model.score_of(observed))
                synthesized_score = ops.mean(model.score_of(synthesized))
                loss += likelihood.weight * (synthesized_score - observed_score)
                parts = {"score_observed": observed_score, "score_synthesized": synthesized_score}
            if matching is not None:
                parts["matching_loss"] = self._match(observed, constraint, model.training_noise)
                loss += matching.weight * parts["matching_loss"]
            for penalty in model.network.losses:
                loss += ops.cast(penalty, "float32")
            return loss, {name: ops.stop_gradient(part) for name, part in parts.items()}

        measured = backend.descend(objective, model.optimizer, model.trainable_variables)
        if likelihood is not None:
            reference = ops.mean(model.reference_energy_of(synthesized)) - ops.mean(
                model.reference_energy_of(observed)
            )
            score_gap = measured["score_synthesized"] - measured["score_observed"]
            measured["value"] = reference - score_gap
        return measured
