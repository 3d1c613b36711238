"""The order at which an error falls with resolution or sample size."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["convergence_order"]


def convergence_order(x: Any, error: Any) -> float:
    r"""Return the power of x by which an error goes.

    The slope p of the least-squares line through :math:`(\log x_j, \log e_j)`: for :math:`e_j = c \, x_j^p` it is p.

    Parameters
    ----------
    x
        Resolutions or sample sizes, shape (resolutions,), at least two different ones.
    error
        The error at each, shape (resolutions,).

    Raises
    ------
    ValueError
        For shapes that do not match, fewer than two different resolutions, or values that are not finite and > 0, which
        have no logarithm.
    """
    abscissa, ordinate = (np.asarray(values, dtype=np.float64) for values in (x, error))
    if abscissa.ndim != 1 or abscissa.shape != ordinate.shape or len(np.unique(abscissa)) < 2:
        raise ValueError(
            "an order needs errors at two or more different resolutions; "
            f"got {abscissa.shape} resolutions, {ordinate.shape} errors"
        )
    for name, values in (("resolutions", abscissa), ("errors", ordinate)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} must be finite and > 0 to have a logarithm; got {values.tolist()}")
    logs = np.log(abscissa) - np.log(abscissa).mean()
    return float(logs @ np.log(ordinate) / (logs @ logs))
