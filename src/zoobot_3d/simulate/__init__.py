"""A simulated survey that writes the same files as the real ones. Only tests, demo and command line import it."""
