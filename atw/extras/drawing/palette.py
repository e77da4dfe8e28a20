"""What figures of all kinds share: colours that the colour-blind tell apart, and labels that fit."""

# Of Okabe and Ito's palette, and as light as dark paper wants them.
COLOURS = {"rgb": "#0072B2", "flow": "#D55E00", "warped": "#009E73"}
COLOURS_ON_DARK = {"rgb": "#56B4E9", "flow": "#F08A3C", "warped": "#2BC79A"}
_LONGEST_LABEL = 28


def shortened(label: str) -> str:
    """A label that fits beside a picture."""
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"
