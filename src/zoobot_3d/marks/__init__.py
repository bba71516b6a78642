"""What volunteers drew: the marks of one galaxy, the Galaxy Zoo: 3D file format, and marks turned into votes.

Knows polygons and pixel grids. Must not know where files come from, nor networks.

Public: `volunteer_marks.VolunteerMarks`, `gz3d.read_gz3d`, `gz3d.write_gz3d`, `rasterize.rasterize_marks`,
`table.read_marks_table`.
"""
