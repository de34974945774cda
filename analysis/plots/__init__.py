"""What all figures share: house style, figures that know their rows, SVG; and figures that no question owns."""
