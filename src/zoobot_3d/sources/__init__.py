"""One file for each place that data comes from, and the client that downloads from it.

Must not know what is made of the files. Every download is polite, resumable and verified.

Public: `gz3d_archive.fetch_gz3d`, `legacy_survey.fetch_cutouts`, `galaxy_zoo`, `sami`, `hoyle`, `votes`, `http.Client`.
"""
