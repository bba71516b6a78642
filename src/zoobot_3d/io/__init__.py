"""Files: FITS, JPEG, PNG, tables, and writing that is whole or not at all. The only place where rows are flipped.

In memory row 0 is north; FITS files start in the south unless their WCS says otherwise, pictures start in the north.
Must not know what is done with what was read.

Public: `read_picture`, `open_cutout`, `read_cutout`, `read_table`, `write_mask_fits`, `write_table`, `write_atomic`.
"""

from zoobot_3d.io.cubes import BandImage, Cutout, open_bands, open_cutout, read_cutout, write_cutout
from zoobot_3d.io.files import (
    atomic_path,
    check_regular,
    file_stem,
    gunzip,
    inside,
    unique_stems,
    write_atomic,
    write_figure,
)
from zoobot_3d.io.masks import MASK_CREATOR, is_mask_file, write_mask_fits, write_mask_png
from zoobot_3d.io.pictures import (
    JPEG_QUALITY,
    decode_mask_png,
    encode_mask_png,
    open_picture,
    read_mask,
    read_picture,
    write_jpeg,
    write_png,
)
from zoobot_3d.io.table_writing import as_one_kind, write_parquet, write_table
from zoobot_3d.io.tables import TABLES, read_table, table_columns

__all__ = [
    "JPEG_QUALITY",
    "MASK_CREATOR",
    "TABLES",
    "BandImage",
    "Cutout",
    "as_one_kind",
    "atomic_path",
    "check_regular",
    "decode_mask_png",
    "encode_mask_png",
    "file_stem",
    "gunzip",
    "inside",
    "is_mask_file",
    "open_bands",
    "open_cutout",
    "open_picture",
    "read_cutout",
    "read_mask",
    "read_picture",
    "read_table",
    "table_columns",
    "unique_stems",
    "write_atomic",
    "write_cutout",
    "write_figure",
    "write_jpeg",
    "write_mask_fits",
    "write_mask_png",
    "write_parquet",
    "write_png",
    "write_table",
]
