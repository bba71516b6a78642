"""Tables of galaxies: one reader for every format, positions, pairs by position, and the files a row names.

Opens tables, never the pictures or marks that they name. Must not know where a table was downloaded, nor what is
learned from it.

Public: `reading.read_catalog`, `listing.list_galaxies`, `pixel_scales.gz_pixscale`, `splits.assign_split`,
`positions.read_positions`, `pairs.TableCatalogue`, `galaxy_files.galaxy_files`.
"""
