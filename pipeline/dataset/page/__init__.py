"""Reports as one self-contained HTML page: figures in figures, for both sides; knows neither Beam nor torch."""
