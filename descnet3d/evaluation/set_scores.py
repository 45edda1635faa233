"""What two sets say of each other: generated shapes beside real ones, as distances or as judged.

The first three are functions of a matrix of distances between the shapes of two sets, whatever the
distance; the others of what a reference classifier says of the shapes.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg


def coverage(distances: np.ndarray) -> float:
    """The share of the real shapes that are the nearest of at least one generated shape.

    COV = `|{argmin over r of d(g, r), g in G}| / |R|` (Achlioptas et al., *Learning Representations
    and Generative Models for 3D Point Clouds*, 2018). A set that repeats itself covers little.

    Args:
        distances: of each generated shape to each real one, `[n, m]`.
    """
    return len(np.unique(distances.argmin(axis=1))) / distances.shape[1]


def minimum_matching_distance(distances: np.ndarray) -> float:
    """The mean, over the real shapes, of the distance to the nearest generated one.

    MMD = mean over r in R of min over g in G of d(g, r) (Achlioptas et al., 2018).

    Args:
        distances: of each generated shape to each real one, `[n, m]`.
    """
    return float(distances.min(axis=0).mean())


def nearest_neighbour_accuracy(
    among_generated: np.ndarray, between: np.ndarray, among_real: np.ndarray
) -> float:
    """How well the nearest other shape tells generated from real: 0.5 where nothing does.

    The leave-one-out accuracy of a 1-nearest-neighbour classifier of G ∪ R (Lopez-Paz and Oquab,
    2017; Yang et al., *PointFlow*, 2019): 1 where the sets lie apart, below 0.5 where generated
    shapes are copies of the real ones. Sets of equal size make 0.5 the middle; a shape that is as
    near to both sets counts half.

    Args:
        among_generated: distances `[n, n]`.
        between: of each generated shape to each real one, `[n, m]`.
        among_real: distances `[m, m]`.
    """
    own = [
        np.where(np.eye(len(each), dtype=bool), np.inf, each).min(axis=1)
        for each in (among_generated, among_real)
    ]
    other = [between.min(axis=1), between.min(axis=0)]
    hits = [
        (mine < theirs) + 0.5 * (mine == theirs) for mine, theirs in zip(own, other, strict=True)
    ]
    return float(np.concatenate(hits).mean())


def inception_score(probabilities: np.ndarray, splits: int = 10) -> tuple[float, float]:
    """exp(mean over Y of KL(p(c | Y) ‖ p(c))): how sure each shape is, and how various they are.

    Salimans et al., *Improved Techniques for Training GANs*, 2016. At best it is the number of
    categories.

    Args:
        probabilities: p(c | Y) of each shape, `[n, k]`, in an order that means nothing.
        splits: the parts that are scored one by one.

    Returns:
        The mean over the parts, and their standard deviation.

    Raises:
        ValueError: when there are fewer shapes than parts.
    """
    if len(probabilities) < splits:
        raise ValueError(f"probabilities must be of at least {splits} shapes, one a part.")
    scores = []
    for part in np.array_split(np.asarray(probabilities, np.float64), splits):
        marginal = part.mean(axis=0, keepdims=True)
        ratio = np.log(np.maximum(part, 1e-16)) - np.log(np.maximum(marginal, 1e-16))
        scores.append(np.exp((part * ratio).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½): that of two Gaussians with the moments of two sets.

    Heusel et al., *GANs Trained by a Two Time-Scale Update Rule*, 2017. With fewer rows than
    columns the covariances are singular, and the distance is biased upwards; compare sets of equal
    size.

    Args:
        first: features `[n, d]`, at least two rows.
        second: features `[m, d]`, at least two rows.
    """
    means = [each.mean(axis=0, dtype=np.float64) for each in (first, second)]
    factors = [
        (np.asarray(each, np.float64) - mean) / np.sqrt(len(each) - 1)
        for each, mean in zip((first, second), means, strict=True)
    ]
    # With Σᵢ = AᵢᵀAᵢ the trace of (Σ₁Σ₂)^½ is the sum of the singular values of A₁A₂ᵀ.
    cross = linalg.svdvals(factors[0] @ factors[1].T).sum()
    traces = sum(np.square(factor).sum() for factor in factors)
    return float(np.square(means[0] - means[1]).sum() + traces - 2 * cross)
