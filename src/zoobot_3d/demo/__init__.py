"""A demonstration on simulated galaxies: masks of the package's model, then of the same model fine-tuned on the spot.

It uses the other rooms as a user would, and must hold no method of its own.

Public: `run.demo`, `run.DemoConfig`, `run.find_real_pictures`.
"""
