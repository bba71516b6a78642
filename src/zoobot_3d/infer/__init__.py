"""Using a trained network: bundles, masks of arrays, and masks of whole catalogues.

Must not know how a network is trained, and draws no figures.

Public: `bundle.load_bundle`, `description.describe`, `segmenter.load_segmenter`, `predict.predict`,
`predict.read_masks`, `radec.predict_radec`, `import_checkpoint.import_checkpoint`.
"""
