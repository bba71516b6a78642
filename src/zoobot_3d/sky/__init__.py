"""Where an array lies on the sky, and how nanomaggies become a picture.

Must not know files, catalogues or networks.

Public: `grid.PixelGrid`, `grid.resample`, `rgb.rgb_from_grz`, `rgb.grz_from_rgb`.
"""
