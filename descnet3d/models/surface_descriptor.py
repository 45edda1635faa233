"""A descriptor of surfaces, on grids of any size: E(Y | a coarser shape, level)."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy import ndimage

from descnet3d.arguments import require_positive_integer
from descnet3d.energy.annealing import AnnealedSampler, draw_levels, signal_of
from descnet3d.energy.composition import Composition, with_observation
from descnet3d.energy.conditional_energy import ConditionalEnergy, is_told_observations
from descnet3d.energy.constraints import block_means, expand_blocks
from descnet3d.energy.settings import AnnealingSettings
from descnet3d.models.conditional_network import on_grid
from descnet3d.models.denoising import DenoisingModel
from descnet3d.models.one_network import OfOneNetwork
from descnet3d.shapes.occupancy import as_occupancy

# From how many of its eight voxels on a block counts as occupied, in training; nobody knows it of a
# shape that comes from elsewhere, so that the network is told.
SHARES = (1 / 8, 1 / 4, 1 / 2, 1 / 2)
_VOXELS = 2**20  # that chains have at a time: 32 shapes of 32³
_MOST_TOLD = 2**25  # voxels that are told at a time: 16 shapes of 128³, 400 MB


@keras.saving.register_keras_serializable("descnet3d")
class SurfaceDescriptor(OfOneNetwork, DenoisingModel):
    """An energy of fine shapes whose blocks of 2³ voxels are occupied as a coarser shape says.

    Which blocks are occupied, and from which share of its voxels on a block counts as occupied, is
    told to the network as an observation of each voxel. No weight belongs to a category or to a
    place in the grid, so that it refines shapes of any kind on grids of any size, again and again.
    Where the network is `mirrored`, each place is seen beside its mirrored ones about the middle of
    the grid, so that symmetric shapes should stand there.

    Args:
        network: f, as `models.conditional_network.conditional` builds it with `code=0` and
            `observed=True`.
        voxel_mean: what is subtracted from occupancy.
        reference_std: half the distance of occupied and empty voxels.
        sampling: the schedule of `refine`, which takes its `reconstruction_steps`.
        seed: seeds the noise of training.

    Raises:
        ValueError: when the network is not told observations, or belongs to its grid.
    """

    preset_class = "SurfaceDescriptor"
    sampling_settings = AnnealingSettings
    is_told_observations = True

    def __init__(
        self,
        network: keras.Model,
        *,
        voxel_mean: float = 0.5,
        reference_std: float = 0.5,
        sampling: AnnealingSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            grid=tuple(network.inputs[0].shape[1:4]),
            voxel_mean=float(voxel_mean),
            seed=seed,
            name="surface_descriptor",
        )
        if not is_told_observations(network):
            raise ValueError("network must be told observations: conditional(observed=True).")
        if any(layer.name == "code_2" for layer in network.layers):
            raise ValueError("network must have no weights that belong to places: code=0.")
        self.network = network
        self.reference_std = float(reference_std)
        self.sampling = sampling or AnnealingSettings()
        self.sampling_noise = keras.random.SeedGenerator(seed)
        self.conditional = ConditionalEnergy(network, None, self.reference_std)
        self.cross_entropy = self.conditional.cross_entropy
        self._sampled: dict[int, tuple[keras.Model, AnnealedSampler]] = {}

    def energy(self, shapes: Any, batch_size: int = 32, *, block_share: float = 0.5) -> np.ndarray:
        """E(Y | Y half as fine) of each shape at the last noise level: the lower, the likelier.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`, on the model's grid.
            batch_size: shapes at a time.
            block_share: as in `refine`.

        Returns:
            A float32 array `[n]`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """

        def energies(positions: Any) -> Any:
            ones = ops.ones((len(positions), 1))
            told = self._told(self._occupied(positions, block_share * ones), block_share * ones)
            level = self.sampling.last_level
            return self.conditional.energy_of(signal_of(level) * positions, told, level * ones)

        return self._in_batches(energies, shapes, batch_size)

    def refine(
        self,
        shapes: Any,
        size: int | None = None,
        *,
        block_share: float = 0.5,
        strength: float = 0.5,
        seed: int | None = None,
        num_steps: int | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> np.ndarray:
        """Shapes on a finer grid, by annealed Langevin dynamics, twice as fine at each round.

        Args:
            shapes: occupancy in [0, 1], `[n, d, d, d]`, d a multiple of the half of the network's
                patches; voxels above 0.5 are taken for occupied.
            size: the side of the fine grid, d times a power of two; 2·d where it is not given.
            block_share: from which share of its eight voxels on a block counts as occupied: 0.5
                keeps the volume; 0.125 is for shapes whose every voxel that is touched is occupied,
                which become thinner.
            strength: what is added to the log odds of a voxel to be as its block is, so that faces
                which may as well lie here as there stay where they were; 0 adds nothing. Where all
                neighbours of a block are as it is, so are its voxels.
            seed: of the noise; the same seed gives the same shapes on the same backend and
                machine.
            num_steps: levels a round, instead of `sampling.reconstruction_steps`.
            batch_size: shapes at a time; as many as 32 of 32³ where it is not given. Another size
                gives other shapes.
            progress: whether to show a progress bar of each round.

        Returns:
            Occupancy in [0, 1], float32 `[n, size, size, size]`.

        Raises:
            ValueError: when the shapes are not occupancy on a cubic grid that patches fill, or
                `size` is not their side doubled once or more.
        """
        fine = as_occupancy(shapes, "shapes")
        rounds = self.rounds_to(fine.shape[1:], size)
        if not 0 < block_share <= 1:
            raise ValueError(f"block_share must lie in (0, 1], but it is {block_share!r}.")
        if not 0 <= strength < math.inf:
            raise ValueError(f"strength must be 0 or more and finite, but it is {strength!r}.")
        if batch_size is not None:
            require_positive_integer("batch_size", batch_size)
        how = {"num_steps": num_steps, "progress": progress}
        for _ in range(rounds):
            side = 2 * fine.shape[1]
            how["batch_size"] = batch_size or max(1, min(32, _VOXELS // side**3))
            # What is told of many large shapes would fill the memory.
            at_once = max(1, _MOST_TOLD // side**3)
            fine = np.concatenate(
                [
                    self._twice_as_fine(
                        fine[start : start + at_once],
                        block_share,
                        strength,
                        {**how, "seed": _seed_from(seed, start)},
                    )
                    for start in range(0, len(fine), at_once)
                ]
            )
        return fine

    def rounds_to(self, grid: tuple[int, ...], size: int | None) -> int:
        """How often shapes on a grid are made twice as fine, for one of a side.

        Raises:
            ValueError: as `refine`.
        """
        side, patch = grid[0], self._patch
        if set(grid) != {side} or 2 * side % patch:
            raise ValueError(
                f"shapes must be on a cubic grid whose side is a multiple of {patch // 2}, but "
                f"theirs is {list(grid)}."
            )
        size = 2 * side if size is None else size
        rounds = (size // side).bit_length() - 1 if isinstance(size, int) else 0
        if rounds < 1 or size != side << rounds:
            raise ValueError(
                f"size must be {2 * side}, {4 * side} or another doubling of the shapes' side, "
                f"{side}, but it is {size!r}."
            )
        return rounds

    @property
    def _patch(self) -> int:
        return round(self.network.get_layer("patches").output.shape[-1] ** (1 / 3))

    def _twice_as_fine(
        self, coarse: np.ndarray, block_share: float, strength: float, how: dict[str, Any]
    ) -> np.ndarray:
        """One round, `[n, d, d, d]` to `[n, 2d, 2d, 2d]`; `how` as the sampler takes it."""
        count, side = len(coarse), 2 * coarse.shape[1]
        occupied = (coarse > 0.5).astype(np.float32)[..., None]
        told = self._told(occupied, np.full((count, 1), block_share, np.float32))
        alike = expand_blocks(ops.convert_to_tensor(_likely(occupied, strength)), (side,) * 3)
        settings, told = self.sampling.reconstructing(sampled=False), told._replace(told=alike)
        positions = self._sampler(side).sample(count, settings, condition=told, **how)
        return np.clip(positions[..., 0] + self.voxel_mean, 0.0, 1.0)

    def _sampler(self, side: int) -> AnnealedSampler:
        """What samples on grids of a side, with the weights as they are now."""
        if side not in self._sampled:
            network = on_grid(self.network, side)
            conditional = ConditionalEnergy(network, None, self.reference_std)
            draws = {"energy": conditional.drawn_by_energy, "odds": conditional.drawn_by_odds}
            grid, std = (side, side, side), self.reference_std
            sampler = AnnealedSampler(draws, grid, std, self.sampling_noise)
            self._sampled[side] = network, sampler
        network, sampler = self._sampled[side]
        for ours, theirs in zip(network.variables, self.network.variables, strict=True):
            ours.assign(theirs)
        return sampler

    def _occupied(self, positions: Any, share: Any) -> Any:
        """Which blocks of shapes in model space are occupied, 0 and 1, `[n, d, d, d, 1]`."""
        half = tuple(side // 2 for side in self.grid)
        filled = block_means(positions, half) + self.voxel_mean
        # Means of eight voxels are exact but for the rounding of the mean that is added.
        return ops.cast(filled > ops.reshape(share, (-1, 1, 1, 1, 1)) - 1e-3, "float32")

    def _told(self, occupied: Any, share: Any) -> Composition:
        """What the network is told: which blocks are occupied, and from which share on.

        A block's value is halfway to the average of a full or an empty one, which would say of each
        voxel for certain what it is.

        Args:
            occupied: 0 and 1, `[n, d, d, d, 1]`.
            share: `[n, 1]`.
        """
        count, side = ops.shape(occupied)[0], 2 * occupied.shape[1]
        halfway = self.reference_std * (ops.convert_to_tensor(occupied) - 0.5)
        values = expand_blocks(halfway, (side, side, side))
        shares = ops.reshape(share, (-1, 1, 1, 1, 1)) * ops.ones_like(values)
        nothing = ops.zeros((count, self.network.input_shape[1][1]))
        return with_observation(nothing, ops.concatenate([values, shares], axis=-1))

    # --- Training ----------------------------------------------------------------------------

    def _begin_learning(self, learns: str) -> None:
        if learns != "odds":
            raise ValueError(f'denoising.learns must be "odds" here, but it is {learns!r}.')

    def _noised(
        self, data: Any, noise: keras.random.SeedGenerator, untold: float
    ) -> tuple[Any, Any, Any, Any]:
        """Positions on the paths of a batch, the coarser shapes, levels, and the occupancy."""
        shapes, _ = self.unpacked(data)
        observed = self.observed_of(shapes)
        count = ops.shape(observed)[0]
        drawn = keras.random.randint((count, 1), 0, len(SHARES), seed=noise)
        share = ops.take(ops.convert_to_tensor(SHARES, "float32"), drawn)
        condition = self._told(self._occupied(observed, share), share)
        level = draw_levels(self.denoising, count, noise)
        positions = self.conditional.noised(observed, level, noise)
        return positions, condition, level, observed + self.voxel_mean


def _seed_from(seed: int | None, start: int) -> int | None:
    """The seed of the shapes from one on; those from the first on have the given one."""
    if seed is None or not start:
        return seed
    return int(np.random.SeedSequence((seed, start)).generate_state(1)[0])


def _likely(occupied: np.ndarray, strength: float) -> np.ndarray:
    """The log odds that the voxels of a block are told.

    Those of blocks whose neighbours are as they are leave no doubt, so that nothing floats where a
    coarser shape is empty all around.

    Args:
        occupied: 0 and 1, `[n, d, d, d, 1]`.
        strength: what the others are told.
    """
    near = (1, 3, 3, 3, 1)
    empty = ndimage.maximum_filter(occupied, near, mode="nearest") == 0
    full = ndimage.minimum_filter(occupied, near, mode="nearest") == 1
    told = strength * (2.0 * occupied - 1.0)
    return np.select([empty, full], [-np.inf, np.inf], told).astype(np.float32)
