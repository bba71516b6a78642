"""One file for each place that data comes from."""
