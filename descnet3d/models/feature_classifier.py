"""Classification by unsupervised features: a descriptor, and a logistic regression on what it sees.

As the paper's application 4 has it: the descriptor is trained without labels, its pooled responses
are the features, and a multinomial logistic regression is all that sees labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

import keras
import numpy as np
from keras import layers
from scipy.special import softmax

from descnet3d.models.energy_based import EnergyBasedModel
from descnet3d.models.features import Pooling
from descnet3d.models.preset_config import CLASSES
from descnet3d.models.saving import SavedModel
from descnet3d.shapes.occupancy import as_labels, as_occupancy

# The regularisations among which cross-validation chooses (scikit-learn's C, on features whose mean
# square length is 100), and the principal components that the regression sees at most.
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
COMPONENTS = 600
FOLDS = 5


class FeatureClassifier(SavedModel):
    """Tells categories by a descriptor's features and a multinomial logistic regression.

    Args:
        descriptor: trained without labels: a `DescriptorNet`, or an `AnnealedDescriptor`, which is
            told no category.
        pooling: which of its responses are the features; the descriptor's own `pooling`, or its
            layers, where that is not said.

    Attributes:
        classes: the names of the categories, once it is fitted.
        strength: the regularisation (scikit-learn's C) that cross-validation chose.
        validation: the mean balanced accuracy in cross-validation of each strength.
        preset: the metadata of the preset that it was loaded from, if any.
    """

    preset_class = "VoxelClassifier"

    def __init__(self, descriptor: EnergyBasedModel, *, pooling: Pooling | None = None) -> None:
        self.descriptor = descriptor
        self.grid = descriptor.grid
        self.pooling = pooling or descriptor.pooling
        if self.pooling.layers is None:
            self.pooling = replace(self.pooling, layers=descriptor.pooling.layers)
        self.classes: tuple[str, ...] = ()
        self.strength: float | None = None
        self.validation: dict[float, float] = {}
        self.readout: keras.Model | None = None
        self.preset: dict[str, Any] = {}

    @property
    def parts(self) -> dict[str, keras.Model]:
        """The networks that it is made of: the descriptor's and the regression.

        Raises:
            ValueError: when the classifier has not been fitted.
        """
        return {"network": self.descriptor.network, "readout": self._fitted()}

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset's config says of it, beside its networks."""
        theirs = self.descriptor.settings
        descriptor = {"class": self.descriptor.preset_class}
        if "classes" in theirs:  # those that it could be told, which are not the classifier's
            descriptor["classes"] = theirs["classes"]
        own = {"classes": list(self.classes), "pooling": asdict(self.pooling)}
        return {**theirs, **own, "descriptor": descriptor}

    @classmethod
    def of_parts(cls, parts: Mapping[str, keras.Model], settings: Mapping[str, Any]) -> Self:
        """The fitted classifier of these networks and settings."""
        kept = settings["pooling"]
        pooling = Pooling(tuple(kept["layers"]), kept["regions"], tuple(kept["contractions"]))
        theirs = settings.get("descriptor", {"class": "DescriptorNet"})
        kind = CLASSES[theirs["class"]].load()
        if not issubclass(kind, EnergyBasedModel):
            raise ValueError(f"a {theirs['class']} is no descriptor")
        model = cls(kind.of_parts(parts, {**settings, **theirs}), pooling=pooling)
        model.classes = tuple(settings["classes"])
        model.readout = parts["readout"]
        return model

    def _fitted(self) -> keras.Model:
        if self.readout is None:
            raise ValueError("the classifier has not been fitted: call fit(shapes, labels) first.")
        return self.readout

    def features(self, shapes: Any) -> np.ndarray:
        """The features of shapes, float32 `[n, d]`.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid.
        """
        return self.descriptor.features(
            shapes,
            layers=self.pooling.layers,
            regions=self.pooling.regions,
            contractions=self.pooling.contractions,
        )

    def fit(
        self,
        shapes: Any,
        labels: Any,
        classes: Sequence[str] | None = None,
        *,
        unlabelled: Any = None,
        strength: float | None = None,
        seed: int = 0,
    ) -> Self:
        """Fit the logistic regression; the descriptor stays as it is.

        Features are standardised and projected on their principal components, and categories weigh
        the same however many shapes they have. The regularisation is the one of the best balanced
        accuracy in a cross-validation of five parts, in which identical shapes stay together.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            labels: integers `[n]`, an index into `classes` for each.
            classes: the names of the categories; numbers if absent.
            unlabelled: more shapes, without labels, that count for the principal components.
            strength: scikit-learn's C, instead of a cross-validation.
            seed: of the components, and of the parts.

        Returns:
            The classifier itself.

        Raises:
            ValueError: when the shapes are not occupancy on the model's grid, the labels not
                theirs, or of one category alone.
        """
        shapes = as_occupancy(shapes, "shapes", self.grid)
        found = self.features(shapes)
        more = None if unlabelled is None else self.features(unlabelled)
        return self.fit_features(
            found, labels, classes, groups_of(shapes), unlabelled=more, strength=strength, seed=seed
        )

    def fit_features(
        self,
        features: np.ndarray,
        labels: Any,
        classes: Sequence[str] | None = None,
        groups: np.ndarray | None = None,
        *,
        unlabelled: np.ndarray | None = None,
        strength: float | None = None,
        seed: int = 0,
    ) -> Self:
        """`fit`, where the features are there already.

        Args:
            features: what `features` gave, `[n, d]`.
            labels: as in `fit`.
            classes: as in `fit`.
            groups: integers `[n]`; shapes of one group stay together in cross-validation.
            unlabelled: features of more shapes.
            strength: as in `fit`.
            seed: as in `fit`.
        """
        from sklearn.decomposition import PCA

        count = int(np.max(labels)) + 1 if classes is None else len(classes)
        labels = as_labels(labels, len(features), count, "labels")
        if len(np.unique(labels)) < 2:
            raise ValueError("labels must be of at least two categories, and are of one.")
        names = tuple(classes) if classes is not None else tuple(map(str, range(count)))
        every = features if unlabelled is None else np.concatenate([features, unlabelled])
        mean, std = every.mean(axis=0), every.std(axis=0) + 1e-3
        every = (every - mean) / std
        parts = min(COMPONENTS, len(every) - 1, every.shape[1])
        found = PCA(parts, svd_solver="randomized", random_state=seed).fit(every)
        projected = found.transform((features - mean) / std)
        scale = 10 / np.sqrt(np.square(projected).sum(axis=1).mean())
        projected *= scale
        if strength is None:
            self.validation = _validated(projected, labels, groups, seed)
            strength = max(self.validation, key=lambda each: self.validation[each])
        regression = _regression(strength).fit(projected, labels)
        # One linear map of the features: standardised, projected, scaled, weighed.
        weights = np.zeros((count, parts))
        bias = np.full(count, -1e4)  # a category without a shape is never the likeliest
        coefficients, intercepts = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn keeps their difference alone
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weights[regression.classes_] = coefficients
        bias[regression.classes_] = intercepts
        kernel = (weights * scale) @ found.components_ / std
        bias = bias - kernel @ mean - (weights * scale) @ (found.components_ @ found.mean_)
        inputs = keras.Input((features.shape[1],), name="features")
        logits = layers.Dense(count, name="logits")
        self.readout = keras.Model(inputs, logits(inputs), name="readout")
        logits.set_weights([kernel.T, bias])
        self.classes, self.strength = names, float(strength)
        return self

    def logits_of(self, features: np.ndarray) -> np.ndarray:
        """The logits of features `[n, d]`, float64 `[n, k]`.

        Raises:
            ValueError: when the classifier has not been fitted.
        """
        kernel, bias = (np.asarray(each, np.float64) for each in self._fitted().get_weights())
        return np.asarray(features, np.float64) @ kernel + bias

    def probabilities(self, shapes: Any) -> np.ndarray:
        """p(category | features) of each shape, float64 `[n, k]`, in the order of `classes`.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.

        Raises:
            ValueError: as `features` and `logits_of`.
        """
        logits = self.logits_of(self.features(shapes))
        return softmax(logits, axis=1)

    def predict(self, shapes: Any) -> np.ndarray:
        """The likeliest category of each shape, int64 `[n]`, an index into `classes`.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
        """
        return self.probabilities(shapes).argmax(axis=1)

    def score(self, shapes: Any, labels: Any) -> float:
        """The accuracy: the share of shapes whose likeliest category is their own.

        Args:
            shapes: occupancy in [0, 1], `[n, D, H, W]`.
            labels: integers `[n]`.
        """
        found = self.predict(shapes)
        return float((found == as_labels(labels, len(found), len(self.classes))).mean())


def groups_of(shapes: np.ndarray) -> np.ndarray:
    """A number for each shape of occupancy `[n, D, H, W]`; identical ones have the same."""
    solid = np.packbits(shapes.reshape(len(shapes), -1) > 0.5, axis=1)
    return np.unique(solid, axis=0, return_inverse=True)[1].ravel()


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)


def _validated(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, seed: int
) -> dict[float, float]:
    """The mean balanced accuracy of each strength in cross-validation."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.arange(len(labels)) if groups is None else groups
    smallest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    parts = min(FOLDS, smallest)
    if parts < 2:  # a category of one shape, or of copies of one, can't be left out
        return {1.0: float("nan")}
    folds = list(
        StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(features, labels, groups)
    )
    return {
        strength: float(
            np.mean(
                [
                    balanced_accuracy_score(
                        labels[held],
                        _regression(strength)
                        .fit(features[rest], labels[rest])
                        .predict(features[held]),
                    )
                    for rest, held in folds
                ]
            )
        )
        for strength in STRENGTHS
    }
