"""Numbers from masks: bars and arms, with units, errors and quality flags.

Works on arrays of fractions and their pixel grids, and on folders of predictions. Must not know networks; imports no
torch. Angles on the sky are position angles, north through east.

Public: `bars.measure_bar`, `arms.measure_arms`, `galaxy.measure_masks`, `table.measure_table`, `disk.Disk`,
`disk.disk_of_light`, `flags.decode_flags`.
"""
