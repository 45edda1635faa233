"""The methods of a model whose shapes have latents: generated, encoded, joined and summed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from descnet3d.arguments import require_positive_integer, seed_of
from descnet3d.energy import latents as latent_vectors
from descnet3d.energy.composition import Category
from descnet3d.shapes.occupancy import as_occupancy


class LatentModel(ABC):
    """A model with a map between latents Z ~ N(0, I), `[n, d]`, and shapes.

    Attributes:
        num_latents: d.
        grid: `(D, H, W)`.
    """

    num_latents: int
    grid: tuple[int, int, int]
    revise: Callable[..., np.ndarray]

    @abstractmethod
    def _shapes_of(
        self, latents: np.ndarray, category: Category | None, drawn: bool, progress: bool
    ) -> np.ndarray:
        """Occupancy `[n, D, H, W]` of latents `[n, d]`, which were drawn, or given by the user."""

    @abstractmethod
    def _latents_of(
        self, shapes: np.ndarray, num_steps: int, category: Category | None
    ) -> np.ndarray:
        """Latents `[n, d]` of occupancy `[n, D, H, W]`."""

    def _summed(self, latents: np.ndarray) -> np.ndarray:
        """A sum of latents `[d]`, as what it stands for is made of it."""
        return latents

    def draw_latents(self, num: int, seed: int | None = None) -> np.ndarray:
        """Latents from the prior N(0, I), float32 `[num, d]`: the same on every machine.

        Args:
            num: how many.
            seed: the same seed gives the same latents; None gives new ones.
        """
        require_positive_integer("num", num)
        return latent_vectors.draw(num, self.num_latents, seed_of(seed))

    def generate(
        self,
        num: int | None = None,
        *,
        latents: Any = None,
        category: Category | None = None,
        seed: int | None = None,
        revised: bool = False,
        progress: bool = False,
    ) -> np.ndarray:
        """The shapes of latents: the same latents, the same shapes.

        Args:
            num: how many, of latents from the prior.
            latents: Z, `[n, d]`, instead of `num`.
            category: of which category, where the model knows several.
            seed: of the prior, and of what is random in a revision.
            revised: whether Langevin dynamics revises them.
            progress: whether to show a progress bar.

        Returns:
            Occupancy in [0, 1], float32 `[n, D, H, W]`.

        Raises:
            ValueError: when neither or both of `num` and `latents` are given, one is no number of
                shapes or no latents, or the model knows no such category.
        """
        if num is not None and latents is None:
            known = self.draw_latents(num, seed)
        elif latents is not None and num is None:
            known = self._as_latents(latents)
        else:
            raise ValueError("give one of num, how many shapes, and latents, whose shapes to make.")
        shapes = self._shapes_of(known, category, latents is None, progress)
        if not revised:
            return shapes
        return self.revise(shapes, category=category, seed=seed, progress=progress)

    def encode(
        self, shapes: Any, *, num_steps: int | None = None, category: Category | None = None
    ) -> np.ndarray:
        """The latents of given shapes, of which `generate` makes what is nearest to them.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            num_steps: steps of the search; None for the model's own.
            category: theirs, where the model knows several.

        Returns:
            float32 `[n, d]`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """
        shapes = as_occupancy(shapes, "shapes", self.grid)
        num_steps = self.encoding_steps if num_steps is None else num_steps
        require_positive_integer("num_steps", num_steps)
        return self._latents_of(shapes, num_steps, category)

    @property
    @abstractmethod
    def encoding_steps(self) -> int:
        """How many steps `encode` takes unless told otherwise."""

    def interpolate(
        self,
        a: Any,
        b: Any,
        steps: int = 9,
        *,
        path: str = "spherical",
        category: Category | None = None,
        revised: bool = False,
    ) -> np.ndarray:
        """Shapes on the way from one latent to another.

        Args:
            a: where it begins: latents `[d]`, or a shape `[D, H, W]`, which is encoded.
            b: where it ends, likewise.
            steps: how many shapes, both ends included.
            path: "spherical" or "linear".
            category: of the shapes, where the model knows several.
            revised: whether Langevin dynamics revises each of them.

        Returns:
            Occupancy in [0, 1], float32 `[steps, D, H, W]`.

        Raises:
            ValueError: when an argument is none of these.
        """
        first, last = self._as_latent("a", a, category), self._as_latent("b", b, category)
        between = latent_vectors.path(first, last, steps, path)
        return self.generate(latents=between, category=category, revised=revised, seed=0)

    def arithmetic(
        self, a: Any, b: Any, c: Any, *, category: Category | None = None, revised: bool = False
    ) -> np.ndarray:
        """The shape of the latents Z_a - Z_b + Z_c: what a has and b has not, added to c.

        Args:
            a: latents `[d]`, or a shape `[D, H, W]`, which is encoded.
            b: likewise.
            c: likewise.
            category: of the shapes, where the model knows several.
            revised: whether Langevin dynamics revises it.

        Returns:
            Occupancy in [0, 1], float32 `[D, H, W]`.

        Raises:
            ValueError: when an argument is none of these.
        """
        first, second, third = (
            self._as_latent(name, value, category)
            for name, value in zip("abc", (a, b, c), strict=True)
        )
        total = self._summed(first - second + third)[None]
        return self.generate(latents=total, category=category, revised=revised, seed=0)[0]

    def _as_latents(self, values: Any, name: str = "latents") -> np.ndarray:
        return latent_vectors.as_latents(values, self.num_latents, name)

    def _as_latent(self, name: str, value: Any, category: Category | None) -> np.ndarray:
        array = np.asarray(value)
        if array.shape == (self.num_latents,):
            return self._as_latents(array[None], name)[0]
        if array.shape == self.grid:
            return self.encode(array[None], category=category)[0]
        raise ValueError(
            f"{name} must be latents of shape [{self.num_latents}] or a shape on the grid "
            f"{list(self.grid)}, but it has the shape {list(array.shape)}."
        )
