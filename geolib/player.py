"""Drawings that the reader can scrub through, frame by frame, as HTML that needs nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np

__all__ = ["CLASS_COLOURS", "picture_player", "track_player"]

_WIDTH, _HEIGHT, _MARGIN = 800, 600, 24
#: Colours of the classes, of a lightness that shows on white and on black; beyond ten classes they repeat.
CLASS_COLOURS = [
    "#1f77b4", "#e06c00", "#2ca02c", "#d62728", "#9467bd", "#a0614f", "#d957b0", "#7f7f7f", "#96991a", "#12a0b0",
]  # fmt: skip


def track_player(
    tracks: Any, labels: Sequence[Any], frames: Sequence[str], *, notes: Sequence[str] | None = None, title: str
) -> str:
    """Return an animation of tracks in the plane: a drawing, a slider over its frames, a button that plays them.

    The HTML is complete in itself (no script, style sheet, font or image from outside), works from a saved copy and in
    several copies on one page, takes its text colour from the page, and plays nothing by itself. The slider obeys the
    arrow keys, Home and End; a reader whose system asks for reduced motion gets a button that goes one frame on.

    Parameters
    ----------
    tracks
        Shape (frames, layers + 1, points, 2). All frames are drawn at one scale, equal in both directions.
    labels
        Class of each point, which gives its colour; the class is written at the mean of its tracks' ends.
    frames
        Name of each frame, for example ``epoch 40``.
    notes
        Text shown beside the name of each frame, for example its scores.
    title
        What the drawing shows, for readers who cannot see it.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or numbers of labels, frames or notes that do not match.
    """
    paths = np.asarray(tracks, dtype=np.float64)
    notes = _notes(frames, notes)
    if paths.ndim != 4 or paths.shape[-1] != 2 or 0 in paths.shape or not np.isfinite(paths).all():
        raise ValueError(f"a player takes finite tracks of shape (frames, layers + 1, points, 2); got {paths.shape}")
    if (len(frames), len(notes), len(labels)) != (len(paths), len(paths), paths.shape[2]):
        raise ValueError(
            f"tracks of {len(paths)} frames and {paths.shape[2]} points need as many names, notes and labels; "
            f"got {len(frames)} names, {len(notes)} notes, {len(labels)} labels"
        )
    classes = sorted(set(np.asarray(labels).tolist()))
    content = {
        "paths": _on_canvas(paths).swapaxes(1, 2).tolist(),  # frame, point, layer
        "classes": [str(label) for label in classes],
        "class": [classes.index(label) for label in np.asarray(labels).tolist()],
        "colours": [CLASS_COLOURS[k % len(CLASS_COLOURS)] for k in range(len(classes))],
    }
    label = html.escape(title, quote=True)
    drawing = f'<svg class="drawing" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}"></svg>'
    return _page("track", drawing, content, frames, notes, title)


def picture_player(
    images: Sequence[Any], frames: Sequence[str], *, notes: Sequence[str] | None = None, title: str, caption: str = ""
) -> str:
    """Return an animation of pictures with the controls of `track_player`; without a script the last one is shown.

    Parameters
    ----------
    images
        A frame each, all of one shape (height, width, 3): red, green and blue in [0, 1], the first row on top. They are
        kept as PNG, without loss at 256 levels a colour, and stretched to the player's width: a few hundred pixels a
        side keep the page small.
    frames, notes, title
        As for `track_player`.
    caption
        Text shown under the picture, for example its scale: a picture has no axes.

    Raises
    ------
    ValueError
        For no image, a wrong or changing shape, values outside [0, 1], or numbers of frames or notes that do not match.
    """
    notes = _notes(frames, notes)
    pictures = [np.asarray(image, dtype=np.float64) for image in images]
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 3 or 0 in shapes[0]:
        raise ValueError(f"a player takes pictures of one shape (height, width, 3); got {shapes}")
    if not all(((picture >= 0) & (picture <= 1)).all() for picture in pictures):
        raise ValueError("colours must lie in [0, 1]")
    if (len(frames), len(notes)) != (len(pictures), len(pictures)):
        raise ValueError(
            f"{len(pictures)} pictures need as many names and notes; got {len(frames)} names, {len(notes)} notes"
        )
    urls = [_png(picture) for picture in pictures]
    height, width, _ = shapes[0]
    label = html.escape(title, quote=True)
    # The theme dims images on a dark page, which would change the colours, except those of its class dark-light.
    drawing = f'<img class="drawing dark-light" width="{width}" height="{height}" alt="{label}" src="{urls[-1]}">'
    if caption:
        drawing += f'\n<div class="caption">{html.escape(caption)}</div>'
    return _page("picture", drawing, {"images": urls}, frames, notes, title)


def _page(
    kind: str, drawing: str, content: dict[str, Any], frames: Sequence[str], notes: Sequence[str], title: str
) -> str:
    """Fill the template that all players share."""
    named = [{"name": str(name), "note": str(note)} for name, note in zip(frames, notes, strict=True)]
    data = _inside_script(content | {"frames": named})
    values = {
        "DATA": data,
        "DRAWING": drawing,
        "KEY": hashlib.sha256(data.encode()).hexdigest()[:16],
        "KIND": kind,
        "LAST": str(len(frames) - 1),
        "TITLE": html.escape(title, quote=True),
    }
    page = (resources.files("geolib") / "player.html").read_text("utf-8")
    return Template(page).substitute(values)


def _notes(frames: Sequence[str], notes: Sequence[str] | None) -> Sequence[str]:
    return [""] * len(frames) if notes is None else notes


def _png(picture: np.ndarray) -> str:
    """Return a picture as a data URL."""
    from matplotlib import image

    file = io.BytesIO()
    levels = (255 * picture).round().astype(np.uint8)
    image.imsave(file, levels, format="png", metadata={"Software": ""}, pil_kwargs={"optimize": True})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _on_canvas(paths: np.ndarray) -> np.ndarray:
    """Scale and shift all frames alike to the drawing's coordinates, whose second axis points down."""
    low, high = paths.min((0, 1, 2)), paths.max((0, 1, 2))
    room = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    extent = np.where(high > low, high - low, 1)
    scale = (room / extent).min() * np.array([1, -1])
    drawn: np.ndarray = (paths - (low + high) / 2) * scale + np.array([_WIDTH, _HEIGHT]) / 2
    return drawn.round(1)


def _inside_script(content: Any) -> str:
    """Write JSON that no HTML parser can take for the end of the script, a comment, or an entity."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)  # ASCII, so U+2028 is escaped too
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
