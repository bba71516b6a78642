"""Labelled galaxies as arrays and batches for training: pictures and votes on the grid that a network sees.

Must not know networks or losses. Nothing here is random but the order of the training galaxies.

Public: `sample.read_sample`, `data.MaskDataset`, `data.MaskDataModule`, `samplers.EpochOrder`.
"""
