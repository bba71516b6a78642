"""The road to a training set: extract marks, cross-match, join the master catalogue, write mask files, check.

Each step reads the artefact of the previous one and writes its own. Must not know torch or networks.

Public: `extract.extract_marks`, `extract.catalog`, `crossmatch.crossmatch`, `master.build_master`,
`mask_files.make_masks`, `check.check_catalog`, `collect.collect`.
"""
