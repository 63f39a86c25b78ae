"""Vectors as points of a plane: principal components, and t-SNE (van der Maaten and Hinton 2008) from there.

Nothing is drawn at random: equal vectors give equal points.

Shapes: N vectors, D dimensions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]

_SMALLEST = 1e-12
_STEPS, _EARLY_STEPS, _EXAGGERATION, _RATE = 500, 100, 12.0, 50.0
_FEWEST = 10  # vectors below which neighbourhoods say nothing that principal components do not


def principal_plane(vectors_ND: Reals) -> Reals:
    """Project onto the two directions of largest variance, [N, 2]; each points to its largest component."""
    centered_ND = vectors_ND - vectors_ND.mean(axis=0)
    _, _, directions = np.linalg.svd(centered_ND, full_matrices=False)
    plane_N2 = centered_ND @ directions[:2].T
    if plane_N2.shape[1] < 2:
        plane_N2 = np.pad(plane_N2, ((0, 0), (0, 2 - plane_N2.shape[1])))
    largest = np.abs(plane_N2).argmax(axis=0)
    signs = np.where(plane_N2[largest, [0, 1]] < 0, -1.0, 1.0)  # the decomposition leaves them open
    flipped: Reals = plane_N2 * signs
    return flipped


def tsne(vectors_ND: Reals, perplexity: float = 12.0) -> Reals:
    """Lay out a few hundred vectors so that neighbours stay neighbours, [N, 2]."""
    start_N2 = principal_plane(vectors_ND)
    if len(vectors_ND) < _FEWEST:
        return start_N2
    wanted_NN = _joint(_affinities(_squared_distances(vectors_ND), min(perplexity, (len(vectors_ND) - 1) / 3)))
    places_N2 = start_N2 / max(float(start_N2[:, 0].std()), _SMALLEST) * 1e-4
    speed_N2, gains_N2 = np.zeros_like(places_N2), np.ones_like(places_N2)
    for step in range(_STEPS):
        early = step < _EARLY_STEPS
        slope_N2 = _slope(places_N2, wanted_NN * (_EXAGGERATION if early else 1.0))
        gains_N2 = np.maximum(np.where(slope_N2 * speed_N2 > 0, gains_N2 * 0.8, gains_N2 + 0.2), 0.01)
        speed_N2 = (0.5 if early else 0.8) * speed_N2 - _RATE * gains_N2 * slope_N2
        places_N2 = places_N2 + speed_N2
        places_N2 -= places_N2.mean(axis=0)
    return places_N2


def _squared_distances(points_ND: Reals) -> Reals:
    squares_N = (points_ND**2).sum(axis=1)
    distances_NN: Reals = np.maximum(squares_N[:, None] + squares_N - 2 * points_ND @ points_ND.T, 0.0)
    np.fill_diagonal(distances_NN, 0.0)
    return distances_NN


def _affinities(distances_NN: Reals, perplexity: float) -> Reals:
    """Find each row's Gaussian whose entropy is that of ``perplexity`` equal neighbours, by bisection."""
    low_N, high_N = np.zeros(len(distances_NN)), np.full(len(distances_NN), np.inf)
    sharpness_N = 1.0 / np.maximum(distances_NN.mean(axis=1), _SMALLEST)
    others_NN = ~np.eye(len(distances_NN), dtype=bool)
    for _ in range(50):
        weights_NN = np.exp(-(distances_NN - _nearest(distances_NN)) * sharpness_N[:, None]) * others_NN
        shares_NN: Reals = weights_NN / weights_NN.sum(axis=1, keepdims=True)
        entropy_N = -(shares_NN * np.log(np.maximum(shares_NN, _SMALLEST))).sum(axis=1)
        wide_N = entropy_N > np.log(perplexity)
        low_N, high_N = np.where(wide_N, sharpness_N, low_N), np.where(wide_N, high_N, sharpness_N)
        sharpness_N = np.where(np.isinf(high_N), np.minimum(sharpness_N * 2, 1e9), (low_N + high_N) / 2)
    return shares_NN


def _nearest(distances_NN: Reals) -> Reals:
    """Return each row's smallest distance to another one, [N, 1]: taken off before exp, which would vanish."""
    others_NN = distances_NN + np.diag(np.full(len(distances_NN), np.inf))
    nearest_N1: Reals = others_NN.min(axis=1, keepdims=True)
    return nearest_N1


def _joint(shares_NN: Reals) -> Reals:
    joint_NN: Reals = np.maximum((shares_NN + shares_NN.T) / (2 * len(shares_NN)), _SMALLEST)
    return joint_NN


def _slope(places_N2: Reals, wanted_NN: Reals) -> Reals:
    """Return the gradient of the Kullback-Leibler divergence."""
    near_NN = 1.0 / (1.0 + _squared_distances(places_N2))
    np.fill_diagonal(near_NN, 0.0)
    pull_NN = (wanted_NN - near_NN / near_NN.sum()) * near_NN
    slope_N2: Reals = 4.0 * (pull_NN.sum(axis=1)[:, None] * places_N2 - pull_NN @ places_N2)
    return slope_N2
