"""Pictures for people: attention over a video, a prediction, flow as colours, and films.

The colours are from the palette of Okabe and Ito, which colour-blind people tell apart.
"""

COLOURS = {"rgb": "#0072B2", "flow": "#D55E00", "warped": "#009E73"}
COLOURS_ON_DARK = {"rgb": "#56B4E9", "flow": "#F08A3C", "warped": "#2BC79A"}
_LONGEST_LABEL = 28


def shortened(label: str) -> str:
    """Cut a label to the length that fits beside a picture."""
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
