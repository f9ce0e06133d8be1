"""Results as pictures: charts, and one self-contained page."""
