"""Report pages: one self-contained HTML file with figures in SVG, for both sides. Knows neither Beam nor PyTorch."""
