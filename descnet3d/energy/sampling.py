"""Long runs of Langevin dynamics on a model's energy, compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy import backend
from descnet3d.energy.constraints import Constraint
from descnet3d.energy.langevin import LangevinDiagnostics, langevin_dynamics
from descnet3d.energy.settings import LangevinSettings
from descnet3d.progress import bar as progress_bar

# Long runs are cut into compiled pieces of this many steps, so that their progress can be shown.
STEPS_PER_PIECE = 10


class DivergenceError(RuntimeError):
    """Langevin dynamics, or training, left the range in which its numbers mean anything."""


class LangevinSampler:
    """Langevin dynamics on an energy, as its users want it run: compiled, in rounds, with progress.

    Args:
        energy: E, maps positions `[n, D, H, W, 1]` to `[n]`.
        grid: `(D, H, W)`.
        noise: where the noise comes from.
    """

    def __init__(
        self,
        energy: Callable[[Any], Any],
        grid: tuple[int, int, int],
        noise: keras.random.SeedGenerator,
    ) -> None:
        self.energy = energy
        self.grid = grid
        self.noise = noise
        self._pieces: dict[tuple[int, bool], Any] = {}

    def reseed(self, seed: int) -> None:
        """Begin the noise anew."""
        self.noise.state.assign(np.array([seed, 0], dtype="uint32"))

    def sample(
        self,
        num: int,
        settings: LangevinSettings,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 32,
        progress: bool = False,
        constraint: Constraint | None = None,
        initial: np.ndarray | None = None,
    ) -> np.ndarray:
        """Chains from fresh noise, or from given positions, to shapes.

        Args:
            num: how many.
            settings: how; every round but the first starts from what the last one came to,
                contracted. Given positions count as such an end.
            seed: of the noise; None for a new one.
            num_steps: instead of the settings' own.
            batch_size: chains at a time.
            progress: whether to show a progress bar that counts the steps.
            constraint: what is held of the shapes; chains under it start without noise.
            initial: positions `[num, D, H, W, 1]` to start from; None for noise.

        Returns:
            Positions `[num, D, H, W, 1]`.

        Raises:
            ValueError: when `seed`, `num_steps` or `batch_size` is out of range.
            DivergenceError: when the dynamics run off.
        """
        require_positive_integer("batch_size", batch_size)
        if constraint is not None:
            # Noise would have to be found out first, and hides what is known of the shape.
            settings = replace(settings, initial_std=0.0)
        if num_steps is not None:
            require_positive_integer("num_steps", num_steps)
            settings = replace(settings, num_steps=int(num_steps))
        self.reseed(seed_of(seed))
        steps = -(-num // batch_size) * settings.num_steps
        bar = progress_bar(steps, "step") if progress else None
        parts = []
        for start in range(0, num, batch_size):
            rows, held = slice(start, start + batch_size), None
            if constraint is not None:
                held = type(constraint)(*(ops.convert_to_tensor(each[rows]) for each in constraint))
            if initial is None:
                shape = (min(batch_size, num - start), *self.grid, 1)
                first = settings.initial_std * keras.random.normal(shape, seed=self.noise)
            else:
                first = settings.contraction * ops.convert_to_tensor(initial[rows])
            parts.append(ops.convert_to_numpy(self._rounds(first, settings, held, bar)))
            if not np.isfinite(parts[-1]).all():
                raise DivergenceError(
                    "Langevin dynamics ran off to values that are not finite: take a sampling "
                    f"step_size smaller than {settings.step_size}."
                )
        if bar is not None:
            bar.close()
        return np.concatenate(parts)

    def _rounds(
        self,
        positions: Any,
        settings: LangevinSettings,
        constraint: Constraint | None,
        bar: Any | None,
    ) -> Any:
        for index, steps in enumerate(settings.steps_of_rounds()):
            if index:
                positions = settings.contraction * positions
            if constraint is not None:
                positions = constraint.project(positions)
            one_round = replace(settings, num_steps=steps)
            positions, _ = self.run(positions, one_round, constraint, bar)
        return positions

    def run(
        self,
        initial: Any,
        settings: LangevinSettings,
        constraint: Constraint | None = None,
        bar: Any | None = None,
    ) -> tuple[Any, LangevinDiagnostics]:
        """One round of Langevin dynamics.

        Args:
            initial: where the chains start, in model space, `[n, D, H, W, 1]`.
            settings: steps, step size and temperature.
            constraint: what is held of the shapes.
            bar: a progress bar that counts the steps.

        Returns:
            The last positions, and the `LangevinDiagnostics` of every
            step as NumPy arrays.
        """
        positions, pieces = ops.convert_to_tensor(initial), []
        noisy = settings.temperature > 0
        for start in range(0, settings.num_steps, STEPS_PER_PIECE):
            steps = min(STEPS_PER_PIECE, settings.num_steps - start)
            if (steps, noisy) not in self._pieces:
                self._pieces[steps, noisy] = self._compile_piece(steps, noisy)
            positions, diagnostics = self._pieces[steps, noisy](
                positions,
                ops.convert_to_tensor(settings.step_size, "float32"),
                ops.convert_to_tensor(settings.temperature, "float32"),
                constraint,
            )
            pieces.append([ops.convert_to_numpy(values) for values in diagnostics])
            if bar is not None:
                bar.update(steps)
        return positions, LangevinDiagnostics(*map(np.concatenate, zip(*pieces, strict=True)))

    def _compile_piece(self, num_steps: int, noisy: bool) -> Any:
        def piece(
            positions: Any, step_size: Any, temperature: Any, constraint: Constraint | None
        ) -> tuple[Any, tuple[Any, ...]]:
            positions, diagnostics = langevin_dynamics(
                self.energy,
                positions,
                num_steps=num_steps,
                step_size=step_size,
                temperature=temperature if noisy else 0,
                seed_generator=self.noise,
                projection=constraint.project if constraint is not None else None,
            )
            return positions, tuple(diagnostics)

        return backend.compiled(piece)
